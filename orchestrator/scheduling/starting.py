"""How many processes to start, and for which runtime environments."""

from __future__ import annotations

from orchestrator.scheduling.demands import DemandQueue
from orchestrator.scheduling.environments import EnvironmentStates
from orchestrator.scheduling.places import Places
from orchestrator.scheduling.worker_slots import WorkerSlots, WorkerState

#: Processes that are being started at one time. A fork costs a few milliseconds of the zygote, attaching some
#: more of a CPU: with many at once none of them is ready soon.
STARTS_MAX = 16
#: Pause after a process died before it was ready, doubled each time up to the second number.
START_PAUSE_S = (0.05, 5.0)
#: Leases that hold no resource at all, not counting blocked ones.
FREE_LEASES_MAX = 256

_UNREADY = (WorkerState.STARTING, WorkerState.IDLE)
_POOL = (WorkerState.STARTING, WorkerState.IDLE, WorkerState.LEASED)


class Starting:
    """Looks at demands, pool and failures; decides nothing else."""

    def __init__(
        self,
        slots: WorkerSlots,
        demands: DemandQueue,
        places: Places,
        environments: EnvironmentStates,
        pool_size: int,
    ) -> None:
        self._slots = slots
        self._environments = environments
        self._demands = demands
        self._places = places
        self._pool_size = pool_size
        #: Processes in a row that died before they were ready, and when the next may be started.
        self.failures = 0
        self.not_before_s = 0.0

    def succeeded(self) -> None:
        """A process has become ready."""
        self.failures = 0

    def failed(self, now_s: float) -> None:
        """A process has died before it was ready: the next is started after a pause."""
        first_s, last_s = START_PAUSE_S
        self.not_before_s = now_s + min(first_s * 2**self.failures, last_s)
        self.failures = min(self.failures + 1, 20)

    def missing(self) -> int:
        """Return how many processes the pool is short of; below zero if it has too many."""
        return self._pool_size - self._slots.count(*_POOL)

    def room_for_free_leases(self) -> int:
        """Return how many more leases without resources there may be."""
        free = sum(not slot.held for slot in self._slots.in_state(WorkerState.LEASED))
        return max(FREE_LEASES_MAX - free, 0)

    def wanted(self, now_s: float) -> list[str]:
        """Return the environment of each process to be started now; those that are not ready have none."""
        if now_s < self.not_before_s:
            return []
        envs: list[str] = []
        for env, count in self._employable().items():
            if self._environments.is_ready(env):
                envs += [env] * (count - self._slots.count_of(env, *_UNREADY))
        missing = self.missing() - len(envs)
        of_pool = self._environments.of_pool
        if missing > 0 and of_pool is not None and self._environments.is_ready(of_pool):
            envs += [of_pool] * missing
        return envs[: max(STARTS_MAX - self._slots.count(WorkerState.STARTING), 0)]

    def _employable(self) -> dict[str, int]:
        """Return for each environment how many more workers could be employed at this moment.

        One at least, even if its resources are taken: others would take them each time that they are free,
        were there nobody who could be granted.
        """
        free = {account: account.available for account in self._places}
        counts: dict[str, int] = {}
        for demand in self._demands:
            if demand.bundles:
                continue
            room = min(demand.want, STARTS_MAX)
            if not demand.hold:
                room = min(demand.want, 1 if demand.actor else self.room_for_free_leases())
            count = 0
            for account in self._places.accounts_of(demand.scheduling):
                while (
                    count < room and demand.resources.fits(left := free[account]) and demand.hold.fits(left)
                ):
                    free[account] = left.subtract(demand.hold)
                    count += 1
            counts[demand.env] = counts.get(demand.env, 0) + count
        return {env: max(count, 1) if env else count for env, count in counts.items()}
