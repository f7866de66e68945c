"""Leases and the queues they serve: what a submitter knows of the workers that were lent to it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from orchestrator.common import config
from orchestrator.common.scheduling_class import SchedulingClass

if TYPE_CHECKING:
    from orchestrator.core.task import Task
    from orchestrator.objects.plasma_adapter import Sender

PIPELINE_US = config.PIPELINE_US

#: Work that may be ahead of a task while another worker is free: less than it takes to wake that one.
WORTH_WAKING_US = 100


class Lease:
    """A worker lent to this process."""

    __slots__ = (
        "address",
        "head",
        "head_since",
        "idle_since",
        "inflight",
        "leaving",
        "load_us",
        "node",
        "paused",
        "pid",
        "queue",
        "retired",
        "sender",
        "stalled",
        "state",
        "used",
    )

    def __init__(self, queue: SchedulingQueue, address: int, pid: int, sender: Sender, node: int = 0) -> None:
        self.queue = queue
        self.address = address
        #: index of its node
        self.node = node
        self.pid = pid
        #: None once the worker is dead
        self.sender: Sender | None = sender
        #: sent and not answered, in the order they were sent; the first one is running
        self.inflight: dict[int, Task] = {}
        #: what the tasks in flight are expected to take together
        self.load_us = 0
        #: its task waits in get(): it takes no others meanwhile
        self.paused = False
        #: the last task that the worker runs; 0 while it may run any number
        self.retired = 0
        #: its head runs longer than expected: it takes no others until it answers
        self.stalled = False
        #: the node wants it back: it takes no others, and goes when what was sent is answered
        self.leaving = False
        #: the head at the last tick, and since when
        self.head = -1
        self.head_since = 0.0
        #: something was sent since the last tick; and since when nothing was
        self.used = True
        self.idle_since = 0.0
        #: an actor has a state and a lease has none: that is how a reply finds its way
        self.state = None

    def revoke(self, task: Task) -> bool:
        """Take back a task that was sent; False when the worker has it already, or is dead."""
        return self.sender is not None and self.sender.revoke(task.ticket)


class SchedulingQueue:
    """The tasks of one scheduling class, and the workers lent for it.

    Those whose arguments lie on one node are apart from the others: see locality.py.
    """

    __slots__ = (
        "contended_until",
        "family",
        "key",
        "leases",
        "near",
        "pending",
        "scheduling",
        "wanted",
        "warned",
        "waiting_since",
    )

    def __init__(self, scheduling: SchedulingClass, key: str, near: int = 0) -> None:
        self.scheduling = scheduling
        self.key = key
        #: the node that should be asked first; 0 if it doesn't matter
        self.near = near
        #: the queues of the same class, this one too, if there are others
        self.family: list[SchedulingQueue] = []
        self.pending: deque[Task] = deque()
        self.leases: list[Lease] = []
        #: what the node believes this process wants more
        self.wanted = 0
        self.waiting_since = 0.0
        self.warned = False
        #: the node has said that others wait for such workers; 0.0 when it has not lately
        self.contended_until = 0.0

    def join(self, other: SchedulingQueue) -> None:
        """Belong to another queue of the same class: what is lent for the one may serve the other."""
        other.family = other.family or [other]
        other.family.append(self)
        self.family = other.family

    def adopt(self) -> Lease | None:
        """Take over an idle worker from another queue of the class, if it is where it should be."""
        for other in self.family:
            if other is self or other.pending:
                continue
            for lease in other.leases:
                if not (lease.inflight or lease.paused) and self.near in (0, lease.node):
                    other.leases.remove(lease)
                    lease.queue = self
                    self.leases.append(lease)
                    return lease
        return None

    def pick(self, cost_us: int) -> Lease | None:
        """Return the lease for a task of this cost, or None when all are busy enough.

        The first one that is nearly idle, so that a trickle of tasks keeps to one warm worker;
        then the least loaded one whose pipeline has room.
        """
        best = None
        best_load = PIPELINE_US - cost_us + 1
        for lease in self.leases:
            if lease.paused or lease.stalled:
                continue
            load = lease.load_us
            if not load or (load < WORTH_WAKING_US and cost_us < WORTH_WAKING_US):
                return lease
            if load < best_load:
                best, best_load = lease, load
        return best
