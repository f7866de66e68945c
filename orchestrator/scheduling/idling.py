"""Which idle workers are needed no more.

Those beyond the size of the pool, and those of jobs that are over, are ended after a while; unless they own
something: leases, demands, or living actors.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.scheduling.demands import DemandQueue
from orchestrator.scheduling.jobs import PRIVATE, job_of
from orchestrator.scheduling.starting import Starting
from orchestrator.scheduling.worker_slots import WorkerSlot, WorkerSlots, WorkerState

#: How often idle workers that own something are looked at again.
IDLE_REPEAT_S = 0.5


class Idling:
    """Looks at idle workers; decides nothing else.

    Args:
        actor_owners: owner of each placed actor's worker by token.
        timeout_s: for how long a worker that is not needed is kept.
    """

    def __init__(
        self,
        slots: WorkerSlots,
        demands: DemandQueue,
        starting: Starting,
        actor_owners: Mapping[int, int],
        timeout_s: float,
    ) -> None:
        self._slots = slots
        self._demands = demands
        self._starting = starting
        self._actor_owners = actor_owners
        self._timeout_s = timeout_s
        #: Jobs whose drivers are there.
        self._jobs = {PRIVATE}

    def job_began(self, job: str) -> None:
        """A driver has attached."""
        self._jobs.add(job)

    def job_ended(self, job: str) -> list[WorkerSlot]:
        """The driver of a job is gone; return the workers that wait for its work in vain."""
        self._jobs.discard(job)
        return [
            slot
            for slot in self._slots.in_state(WorkerState.IDLE)
            if job_of(slot.env) == job and not self.owns_something(slot.address)
        ]

    def overdue(self, now_s: float) -> WorkerSlot | None:
        """Return a worker that is to be ended now, the longest idle first."""
        for slot in self._slots.in_state(WorkerState.IDLE):
            if now_s - slot.since_s < self._timeout_s:
                return None
            if self._is_needless(slot) and not self.owns_something(slot.address):
                return slot
        return None

    def due_s(self, looked_at_s: float) -> float | None:
        """Return when there may be one; an idle worker may be kept because it owns something."""
        for slot in self._slots.in_state(WorkerState.IDLE):
            if self._is_needless(slot):
                return max(slot.since_s + self._timeout_s, looked_at_s + IDLE_REPEAT_S)
        return None

    def _is_needless(self, slot: WorkerSlot) -> bool:
        return self._starting.missing() < 0 or job_of(slot.env) not in self._jobs

    def owns_something(self, client: int) -> bool:
        """Tell whether a worker has leases, demands, or living actors."""
        if self._demands.has_client(client) or client in self._actor_owners.values():
            return True
        return any(slot.holder == client for slot in self._slots)
