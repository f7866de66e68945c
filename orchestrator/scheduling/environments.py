"""Which runtime environments workers can be started for. The plain one, whose key is empty, always is."""

from __future__ import annotations

from orchestrator.scheduling.jobs import job_of, key_of


class EnvironmentStates:
    """Environments that somebody has asked for."""

    def __init__(self) -> None:
        #: Key → whether it is ready, or still being prepared.
        self._ready: dict[str, bool] = {"": True}
        #: Those nobody had asked for before.
        self._new: list[str] = []
        #: The environment of the workers that are started in advance; None for no such workers.
        self.of_pool: str | None = ""

    def is_ready(self, env: str) -> bool:
        """Tell whether workers can be started for it; one that is not known is to be prepared."""
        ready = self._ready.get(env)
        if ready is None:
            ready = self._ready[env] = False
            self._new.append(env)
        return ready

    def works(self, env: str) -> bool:
        """Tell whether workers can be started for it, as far as is known."""
        return self._ready.get(env, False)

    def wants_pool(self, env: str | None) -> None:
        """Workers are to be started in advance for this one; None: for none."""
        self.of_pool = env

    def take_new(self) -> list[str]:
        """Return those that are to be prepared; they are taken for being prepared from now on."""
        new, self._new = self._new, []
        return new

    def ready(self, env: str) -> None:
        """It has been prepared."""
        self._ready[env] = True

    def failed(self, env: str) -> None:
        """It could not be prepared, or its workers don't start: prepared anew for whoever wants it next."""
        self._ready.pop(env, None)
        if env == self.of_pool:
            self.of_pool = None

    def job_began(self, job: str) -> None:
        """There is a plain environment for this job's workers too."""
        self._ready[key_of(job, "")] = True

    def job_ended(self, job: str) -> None:
        """Make nothing in advance for this job any more; what its detached actors need is prepared anew."""
        for env in [env for env in self._ready if env and job_of(env) == job]:
            del self._ready[env]
        if self.of_pool is not None and job_of(self.of_pool) == job:
            self.of_pool = None
