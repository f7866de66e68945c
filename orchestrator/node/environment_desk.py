"""Between the scheduler, which knows an environment once for each job, and `environments`, which makes it.

Most sessions need none, so what makes them is imported when the first is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.node.session_dir import JOBS, LOGS
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import PRIVATE, environment_of, job_of

if TYPE_CHECKING:
    from orchestrator.node.environments import Environments

#: How long workers for a job wait for word of it.
EARLY_MAX_S = 60.0


class EnvironmentDesk:
    """Has environments made, and says what became of them.

    Args:
        session_dir: where environments are described, and the logs of builders are.
        tell: takes events for the scheduler.
        say: called with the jobs that wait, and a line about the builder that is at work for them.
    """

    def __init__(
        self,
        session_dir: str,
        tell: Callable[[events.Event], None],
        say: Callable[[set[str], str], None],
    ) -> None:
        self._session_dir = session_dir
        self._tell = tell
        self._say = say
        #: In a cluster: has an environment that another node has described described here, and calls back
        #: with the reason why it can't be, or "".
        self.fetch: Callable[[str, Callable[[str], None]], None] | None = None
        self._environments: Environments | None = None
        #: The scheduler's keys for which an environment is being made.
        self._waiting: dict[str, dict[str, None]] = {}
        #: Keys of jobs of other nodes of which nothing was heard yet, and since when they wait: who asks for
        #: workers has overtaken the node that tells of the job.
        self._early: dict[str, dict[str, float]] = {}

    def job_known(self, job: str) -> None:
        """What workers must know of a job is there."""
        for key in self._early.pop(job, {}):
            self.prepare(key)

    def _give_up(self, now_s: float) -> None:
        """Nobody waits for ever for word of a job."""
        for job, keys in list(self._early.items()):
            if now_s - max(keys.values()) > EARLY_MAX_S:
                del self._early[job]
                cause = f"this node has heard nothing of job {job} for {EARLY_MAX_S:.0f} s"
                for key in keys:
                    self._tell(events.EnvironmentFailed(key, cause))

    def prepare(self, key: str) -> None:
        """Have the environment of this key made."""
        job = job_of(key)
        if job != PRIVATE and not os.path.exists(os.path.join(self._session_dir, JOBS, job)):
            self._early.setdefault(job, {})[key] = time.monotonic()
            return
        if self._environments is None:
            from orchestrator.node.environments import Environments

            self._environments = Environments(
                self._session_dir,
                os.path.join(self._session_dir, LOGS),
                lambda env: self._settle(env, events.EnvironmentReady),
                lambda env, cause: self._settle(env, lambda key: events.EnvironmentFailed(key, cause)),
                lambda env, text: self._say({job_of(key) for key in self._waiting.get(env, {})}, text),
            )
        env = environment_of(key)
        waiting = self._waiting.setdefault(env, {})
        waiting[key] = None
        if len(waiting) > 1:
            return
        if self.fetch is None:
            self._environments.prepare(env, time.monotonic())
        else:
            self.fetch(env, lambda why: self._fetched(env, why))

    def _fetched(self, env: str, why: str) -> None:
        assert self._environments is not None
        if why:
            self._settle(env, lambda key: events.EnvironmentFailed(key, why))
        else:
            self._environments.prepare(env, time.monotonic())

    def _settle(self, env: str, event: Callable[[str], events.Event]) -> None:
        for key in self._waiting.pop(env, {}):
            self._tell(event(key))

    def exited(self, pid: int, status: int) -> bool:
        """Take note of the end of a process; False if it was none of the builders."""
        return self._environments is not None and self._environments.exited(pid, status, time.monotonic())

    def tick(self, now_s: float) -> None:
        """End builders that are late, speak of the others."""
        self._give_up(now_s)
        if self._environments is not None:
            self._environments.tick(now_s)
