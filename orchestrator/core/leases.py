"""Leases and the queues they serve: what a submitter knows of the workers that were lent to it."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.scheduling_class import SchedulingClass

if TYPE_CHECKING:
    from orchestrator.core.task import Task
    from orchestrator.objects.plasma_adapter import Sender

PIPELINE_US = config.PIPELINE_US

#: Work that may be ahead of a task while another worker is free: less than it takes to wake that one.
WORTH_WAKING_US = 100

#: What comes between the key of a class and a node, in the key by which the latter's tasks are known.
NEAR = "|near="
#: How long a task waits for a worker of the node that has its arguments, before it goes to any.
PATIENCE_S = 0.05
#: How long, after one has waited in vain, the next ones do not.
LAPSE_S = 0.25
#: A queue near a node is forgotten after so long without tasks: nodes come and go.
NEAR_KEPT_S = 60.0
#: How many queues near other nodes are asked when a worker has room.
LOOKED_AT_MAX = 4


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
    """The tasks of one scheduling class, and the workers lent for it."""

    __slots__ = (
        "base",
        "busy",
        "contended_until",
        "key",
        "leases",
        "near",
        "near_queues",
        "pending",
        "scheduling",
        "wanted",
        "warned",
        "waiting_since",
    )

    def __init__(self, scheduling: SchedulingClass, key: str) -> None:
        self.scheduling = scheduling
        self.key = key
        #: the node that should be asked first; 0 if it doesn't matter
        self.near = 0
        #: those of its tasks whose arguments lie on one node; which of them may have tasks that wait; and of
        #: those, where they came from
        self.near_queues: dict[int, NearQueue] = {}
        self.busy: dict[int, NearQueue] = {}
        self.base: SchedulingQueue = self
        self.pending: deque[Task] = deque()
        #: of the whole class
        self.leases: list[Lease] = []
        #: what the node believes this process wants more
        self.wanted = 0
        self.waiting_since = 0.0
        self.warned = False
        #: the node has said that others wait for such workers; 0.0 when it has not lately
        self.contended_until = 0.0

    def all(self) -> list[SchedulingQueue]:
        """Return this queue and those of its class near nodes."""
        return [self, *self.near_queues.values()]

    def tend(self, now_s: float) -> float:
        """Forget queues near nodes that have long had no tasks; return when to look at the others."""
        for node, one in list(self.near_queues.items()):
            if not (one.pending or one.wanted) and now_s - one.since > NEAR_KEPT_S:
                del self.near_queues[node]
        waits = any(one.pending for one in self.near_queues.values())
        return PATIENCE_S if waits else config.TICK_S

    @property
    def has_work(self) -> bool:
        """Whether any task of the class waits."""
        return bool(self.pending) or any(one.pending for one in self.busy.values())

    def push(self, task: Task, first: bool = False) -> None:
        """Have a task wait, before or behind the others."""
        (self.pending.appendleft if first else self.pending.append)(task)
        if self.near:
            self.base.busy[self.near] = self  # type: ignore[assignment]

    def why_it_waits(self, now_s: float) -> str | None:
        """Return what to tell the user, once, of tasks that have found no worker for long."""
        if self.leases or self.warned or now_s - self.waiting_since < config.UNPLACED_WARNING_S:
            return None
        self.warned = True
        environment = ", or its runtime environment is not ready" if self.scheduling.env else ""
        return (
            f"{len(self.pending)} tasks ({self.pending[0].template.name}, ...) have waited for a worker: "
            f"each needs {self.scheduling.resources}. Other tasks or actors hold the resources{environment}."
        )

    def granted(self, lease: Lease) -> None:
        """A worker is lent, as was asked for in the name of this queue."""
        lease.idle_since = self.waiting_since = monotonic()
        self.leases.append(lease)

    def takes(self, lease: Lease) -> bool:
        """Tell whether its tasks may go to this worker now."""
        return True

    def oldest_for(self, lease: Lease) -> SchedulingQueue | None:
        """Return the queue of the class whose first task is the oldest that may go to this worker.

        Of those near other nodes a few are looked at in turn, as there may be as many as nodes.
        """
        ready = [one for one in (self, self.busy.get(lease.node)) if one is not None and one.pending]
        for node in list(islice(self.busy, LOOKED_AT_MAX)):
            one = self.busy.pop(node)
            if one.pending:
                self.busy[node] = one
                if one.takes(lease):
                    ready.append(one)
        return min(ready, key=lambda one: one.pending[0].seq, default=None)

    def pick(self, cost_us: int, leases: list[Lease] | None = None) -> Lease | None:
        """Return the lease for a task of this cost, or None when all (or all of `leases`) are busy enough.

        The first one that is nearly idle, so that a trickle of tasks keeps to one warm worker;
        then the least loaded one whose pipeline has room.
        """
        best = None
        best_load = PIPELINE_US - cost_us + 1
        for lease in self.leases if leases is None else leases:
            if lease.paused or lease.stalled:
                continue
            load = lease.load_us
            if not load or (load < WORTH_WAKING_US and cost_us < WORTH_WAKING_US):
                return lease
            if load < best_load:
                best, best_load = lease, load
        return best


class NearQueue(SchedulingQueue):
    """The tasks of a class whose arguments lie on one node; the workers are those of the class.

    They go to workers of that node. When none has had room for `PATIENCE_S`, or a worker of another node was
    lent because that one has none, they go to any, and those that come in the next `LAPSE_S` do so at once
    (delay scheduling, Zaharia et al. 2010): to bring the arguments elsewhere takes less time than to wait
    longer, and a node that was full is likely to be so still.
    """

    __slots__ = ("lapse_until", "since")

    def __init__(self, base: SchedulingQueue, near: int) -> None:
        super().__init__(base.scheduling, f"{base.key}{NEAR}{near}")
        self.near = near
        self.base = base
        self.leases = base.leases
        #: since when its first task waits, and until when any worker will do
        self.since = monotonic()
        self.lapse_until = 0.0

    def granted(self, lease: Lease) -> None:
        """A worker is lent, as was asked for in the name of this queue."""
        super().granted(lease)
        if lease.node != self.near:
            self.lapse_until = self.waiting_since + LAPSE_S

    def takes(self, lease: Lease) -> bool:
        """Tell whether its tasks may go to this worker now."""
        return lease.node == self.near or self._has_lapsed()

    def pick(self, cost_us: int, leases: list[Lease] | None = None) -> Lease | None:
        """Return the lease for a task of this cost; None if it is to wait."""
        here = super().pick(cost_us, [lease for lease in self.leases if lease.node == self.near])
        return super().pick(cost_us) if here is None and self._has_lapsed() else here

    def _has_lapsed(self) -> bool:
        now_s = monotonic()
        if not self.pending:
            self.since = now_s  # the first one has just come
        elif now_s - max(self.since, self.waiting_since) >= PATIENCE_S:
            self.lapse_until = now_s + LAPSE_S
        return now_s < self.lapse_until


def queue_of(task: Task) -> SchedulingQueue:
    """Return the queue that a task belongs to."""
    queue, near = task.template.queue, task.near
    assert queue is not None
    if not near:
        return queue
    return queue.near_queues.get(near) or queue.near_queues.setdefault(near, NearQueue(queue, near))
