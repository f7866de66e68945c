"""Which queued task goes to which lent worker.

A *lease* is a worker the node lends to this process for one scheduling class. Tasks go straight
into its channel, several at once when they are short: what a function takes is averaged from
the replies, and a lease is filled up to PIPELINE_US of expected work. The expectation may be wrong, so
`tick` looks at every lease with more than one task every few milliseconds; where the same task is
still at the head, the ones behind it are revoked and go elsewhere. So no task waits long behind
another that turned out to be slow.

Two threads may be here at once, one that submits and one that reads replies; `_lock` guards queues
and leases. For new tasks and replies nobody waits for it: they are left in `_left`, and whoever is at it
does what the others leave too (flat combining, Hendler et al. 2010). Two threads that met at a lock for
each task would hand it, and the interpreter's own lock, to and fro with two wake-ups each time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any

from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.core.leases import NEAR, Lease, SchedulingQueue, queue_of
from orchestrator.core.messages import GIVE_BACK
from orchestrator.core.part import Part
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task
from orchestrator.objects.plasma_adapter import WORK, PeerDiedError

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

PIPELINE_US = config.PIPELINE_US

#: The most workers asked for at once for one class.
DEMAND_MAX = 256

#: Every so many submissions with a full pipeline, the submitting thread reads replies itself.
POLL_EVERY = 16


class Dispatcher(Part):
    """The queues of this process's tasks, and the workers lent to it."""

    def __init__(self, runtime: Runtime) -> None:
        self._warn = runtime.warn
        runtime.handlers["explain"] = self._on_explained
        self._endpoint = runtime.endpoint
        self._node_send = runtime.node.send
        self._peers = runtime.peers
        self._pump = runtime.pump
        self._send_control = runtime.send_control
        self._here = runtime.here
        self._node_of: Callable[[int], int] = lambda address: (
            runtime.elsewhere.process_at(address).node if runtime.here else 0
        )
        self._lock = threading.RLock()
        #: tasks to queue (with None), and answered ones with their leases
        self._left: deque[tuple[Lease | None, Task]] = deque()
        self._combiner = threading.Lock()
        #: each step tries once to take `_combiner` and says whether it did; see pump.py for why it is one
        self._attempts = map(self._combiner.acquire, repeat(False))
        self._queues: dict[str, SchedulingQueue] = {}
        #: how long a lease without work is kept; a worker keeps it shorter than a driver
        self.lease_idle_s = config.LEASE_IDLE_S

    def queue_for(self, scheduling: SchedulingClass) -> SchedulingQueue:
        """Return the queue of a scheduling class."""
        key = scheduling.key()
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues.setdefault(key, SchedulingQueue(scheduling, key))
        return queue

    def _named(self, class_key: str) -> SchedulingQueue | None:
        """Return the queue that the node knows by this key, of a class or of those of it near a node."""
        key, _, near = class_key.partition(NEAR)
        queue = self._queues.get(key)
        return queue.near_queues.get(int(near)) if queue is not None and near else queue

    @property
    def has_leases(self) -> bool:
        """Whether somebody should call `tick` before long."""
        return any(queue.leases for queue in list(self._queues.values()))

    def close(self) -> None:
        """Let go of everything; templates that users' functions keep still refer to the queues."""
        for queue in self._queues.values():
            queue.pending.clear()
            queue.leases.clear()

    # -- tasks

    def enqueue(self, task: Task) -> None:
        """Send a task to a worker as soon as one has room for it."""
        self._left.append((None, task))
        self._do_left()
        if not task.seq % POLL_EVERY:
            queue: SchedulingQueue = task.template.queue  # type: ignore[assignment]
            if queue.pending and queue.leases:
                self._pump.poll()

    def answered(self, lease: Lease, task: Task) -> None:
        """Note that a worker is done with a task, which is queued again if its place says so."""
        self._left.append((lease, task))
        self._do_left()

    def _do_left(self) -> None:
        """Queue the tasks and settle the replies that were left, unless another thread is about to."""
        left = self._left
        while left:
            for mine in self._attempts:
                try:
                    if not mine:
                        return
                    with self._lock:
                        while left:
                            # Taken off when done, as an interrupt may come between; so it may be done twice.
                            lease, task = left[0]
                            try:
                                if lease is None:
                                    self._place(task)
                                else:
                                    self._answered(lease, task)
                            except Exception:
                                left.popleft()
                                raise
                            left.popleft()
                    break
                finally:
                    if mine:
                        self._combiner.release()

    def _place(self, task: Task) -> None:
        """Send a new task, or queue it. Lock held."""
        queue: SchedulingQueue = queue_of(task) if task.near else task.template.queue  # type: ignore[assignment]
        pending = queue.pending
        if task.place != QUEUED:
            return
        if not pending:
            lease = queue.pick(task.template.cost_us)
            if lease is not None and self._send(lease, task):
                return
        queue.push(task)
        if not queue.wanted or len(pending) > 2 * queue.wanted:
            self._demand(queue)

    def _answered(self, lease: Lease, task: Task) -> None:
        """A lease has one task less: give it others. Lock held."""
        if lease.inflight.get(task.seq) is not task:
            return
        del lease.inflight[task.seq]
        lease.load_us -= task.charged_us
        lease.stalled = False
        queue = lease.queue
        if task.place == QUEUED:
            queue_of(task).push(task)
        if queue.contended_until:
            self._answered_contended(lease, queue)
        elif queue.busy:
            self._refill_in_turn(lease, queue)
        elif queue.pending:
            self._refill(lease, queue)

    def _answered_contended(self, lease: Lease, queue: SchedulingQueue) -> None:
        """The same while others wait for such workers. Lock held."""
        if lease.leaving:
            if not lease.inflight:
                self._return(lease)
                self._fill(queue)  # asks for another
        elif queue.has_work:
            self._refill_in_turn(lease, queue)
        elif not lease.inflight and not lease.paused:
            self._return(lease)

    def _send(self, lease: Lease, task: Task) -> bool:
        """Put the task into the lease's channel. False if it cannot take it now. Lock held."""
        cost = task.template.cost_us
        seq = task.seq
        message = task.message
        if message is None:
            return True  # the session has ended, and with it this task, while it was being looked at
        # Everything is in place before the message leaves: the reply may come at once, and an
        # interrupt between two lines must find the task somewhere.
        task.place = SENT
        task.lease = lease
        task.charged_us = cost
        if seq in lease.inflight:
            # An answered run of the same task, whose object was lost before `_answered` came to it.
            lease.load_us -= lease.inflight.pop(seq).charged_us
        lease.inflight[seq] = task
        lease.load_us += cost
        lease.used = True
        try:
            task.ticket = lease.sender.send(message)  # type: ignore[union-attr]
        except PeerDiedError:
            task.ticket = 0
            lease.paused = True
        if task.ticket:
            return True
        self._unsend(lease, task)
        return False

    def _unsend(self, lease: Lease, task: Task) -> None:
        del lease.inflight[task.seq]
        lease.load_us -= task.charged_us
        task.place = QUEUED
        task.lease = None

    def _fill(self, queue: SchedulingQueue) -> None:
        """Hand pending tasks to leases while any has room. Lock held."""
        pending = queue.pending
        while pending:
            task = pending[0]
            if task.place != QUEUED:
                # Cancelled; or sent, and an interrupt came before it was taken off the queue.
                pending.popleft()
                continue
            lease = queue.pick(task.template.cost_us)
            if lease is None or not self._send(lease, task):
                self._demand(queue)
                break
            pending.popleft()
        for near in list(queue.busy.values()):
            if near.pending:
                self._fill(near)

    def _demand(self, queue: SchedulingQueue) -> None:
        """Tell the node how many more workers this class could use, when that has changed much. Lock held."""
        want = min(len(queue.pending), DEMAND_MAX)
        if want and not queue.wanted:
            queue.waiting_since = monotonic()
            queue.warned = False
            self._return_idle(queue)
        elif want and want <= 2 * queue.wanted:
            return
        if want != queue.wanted:
            queue.wanted = want
            self._tell_demand(queue)

    def _refill(self, lease: Lease, queue: SchedulingQueue) -> None:
        """A lease has room again: the shortest way from the queue into its channel. Lock held."""
        pending = queue.pending
        while pending and not lease.paused:
            if not self._refill_one(lease, pending):
                return

    def _refill_in_turn(self, lease: Lease, queue: SchedulingQueue) -> None:
        """The same for a class some of whose tasks wait for workers of certain nodes. Lock held."""
        while not lease.paused and (one := queue.oldest_for(lease)) is not None:
            if not self._refill_one(lease, one.pending):
                return

    def _refill_one(self, lease: Lease, pending: deque[Task]) -> bool:
        task = pending[0]
        if task.place == QUEUED:
            load = lease.load_us
            if (load and load + task.template.cost_us > PIPELINE_US) or not self._send(lease, task):
                return False
        # Sent; or cancelled; or sent before, and an interrupt came before it was taken off the queue.
        pending.popleft()
        return True

    def withdraw(self, task: Task) -> int:
        """Take a task back if it has not begun; return where it was, or SENT if it has begun."""
        with self._lock:
            place, lease = task.place, task.lease
            if place == SENT and lease is not None and lease.revoke(task):
                self._unsend(lease, task)
                place = QUEUED
                self._fill(lease.queue)
            if place in (WAITING, QUEUED):
                task.place = DONE  # so that nobody sends it from here on
        return place

    def is_first(self, task: Task) -> bool:
        """Tell whether a worker has the task, and no other before it."""
        with self._lock:
            lease = task.lease
            return task.place == SENT and lease is not None and next(iter(lease.inflight), None) == task.seq

    def unfinished(self) -> list[Task]:
        """Return all tasks that are queued or with a worker."""
        with self._lock:
            found = [task for lease, task in list(self._left) if lease is None]
            for queue in self._queues.values():
                for one in queue.all():
                    found += one.pending
                for lease in queue.leases:
                    found += lease.inflight.values()
        return found

    # -- what the node and the workers say

    def on_granted(self, class_key: str, address: int, pid: int) -> None:
        """The node lends a worker."""
        queue = self._named(class_key)
        if queue is None:
            self._node_send({"op": "return", "worker": address})
            return
        with self._lock:
            if address in self._peers:
                return
            queue.wanted = max(0, queue.wanted - 1)
            try:
                sender = self._endpoint.sender(address, WORK)
            except PeerDiedError:
                self._fill(queue)  # asks for another
                return
            lease = Lease(queue.base, address, pid, sender, self._node_of(address))
            self._peers[address] = lease
            queue.granted(lease)
            self._refill_in_turn(lease, queue.base)
            self._fill(queue.base)

    def on_reclaim(self, class_key: str, address: int | None) -> None:
        """Others wait for resources: give back what is idle now, and this worker as soon as it can be."""
        queue = self._named(class_key)
        if queue is not None:
            with self._lock:
                queue = queue.base
                queue.contended_until = monotonic() + config.CONTENDED_S
                for lease in list(queue.leases):
                    if lease.address == address:
                        lease.leaving = lease.paused = True
                        self._revoke_behind(lease)
                        self._answered_contended(lease, queue)
                        self._fill(queue)
                    elif not lease.inflight and not queue.has_work:
                        self._return(lease)

    def on_infeasible(self, class_key: str) -> list[Task]:
        """No worker will ever be found for this class: return its tasks, which are queued no more."""
        queue = self._named(class_key)
        if queue is None:
            return []
        with self._lock:
            queue.wanted = 0
            doomed = list(queue.pending)
            queue.pending.clear()
        return doomed

    def on_returned(self, lease: Lease, seqs: list[int]) -> None:
        """A worker's task waits for others, so it sends its queued tasks back."""
        with self._lock:
            lease.paused = True
            for seq in reversed(seqs):
                task = lease.inflight.get(seq)
                if task is not None:
                    self._unsend(lease, task)
                    queue_of(task).push(task, first=True)
            self._fill(lease.queue)

    def on_retired(self, lease: Lease, last: int, seqs: list[int]) -> None:
        """A worker runs its last task. What else was sent to it goes elsewhere, now or at its death."""
        lease.retired = last
        self.on_returned(lease, seqs)

    def on_unblocked(self, lease: Lease) -> None:
        """The worker's task goes on, so the worker will take others again."""
        with self._lock:
            lease.paused = bool(lease.retired) or lease.leaving
            self._fill(lease.queue)

    def on_died(self, lease: Lease) -> Task | None:
        """A lent worker is dead: what it had goes elsewhere, except, returned, what it most likely ran.

        That one is nobody's now: WAITING, until `requeue`.
        """
        lost: Task | None = None
        with self._lock:
            queue = lease.queue
            self._peers.pop(lease.address, None)
            if lease in queue.leases:
                queue.leases.remove(lease)
            # Some may have been answered, which `_do_left` was to note.
            tasks = [task for task in lease.inflight.values() if task.place == SENT]
            for task in lease.inflight.values():
                if task.place == QUEUED:
                    queue_of(task).push(task)
            lease.inflight.clear()
            lease.sender = None
            if tasks and lease.retired in (0, tasks[0].seq):
                lost = tasks.pop(0)
                lost.place = WAITING
                lost.lease = None
            for task in reversed(tasks):
                task.place = QUEUED
                queue_of(task).push(task, first=True)
            self._fill(queue)
        return lost

    def requeue(self, task: Task) -> None:
        """Queue a task again that ran in vain, before those that have not run yet."""
        with self._lock:
            queue = queue_of(task)
            if task.place == WAITING:
                task.place = QUEUED
                queue.push(task, first=True)
                self._fill(queue)

    # -- time

    def tick(self, now: float) -> float:
        """Look after leases; return the seconds until the next look is due."""
        due = config.TICK_S
        self._do_left()  # an interrupt may have kept somebody from it
        with self._lock:
            for queue in list(self._queues.values()):
                if queue.contended_until and now > queue.contended_until:
                    if not any(lease.leaving for lease in queue.leases):
                        queue.contended_until = 0.0
                for one in queue.all():
                    if one.pending:
                        self._fill(one)
                        if text := one.why_it_waits(now):
                            self._warn(text)
                    elif one.wanted:
                        self._demand_nothing(one)
                if queue.near_queues:
                    due = min(due, queue.tend(now))
                for lease in list(queue.leases):
                    if not lease.inflight:
                        if lease.used:
                            lease.used = False
                            lease.idle_since = now
                        elif now - lease.idle_since >= self.lease_idle_s:
                            self._return(lease)
                            continue
                        due = min(due, self.lease_idle_s)
                    elif len(lease.inflight) > 1:
                        due = min(due, config.REBALANCE_S)
                        head = next(iter(lease.inflight))
                        if head != lease.head:
                            lease.head, lease.head_since = head, now
                        elif now - lease.head_since >= config.REBALANCE_S:
                            self._take_back(lease)
                    elif queue.pending:
                        due = min(due, config.LEASE_IDLE_S)
        return due

    def _take_back(self, lease: Lease) -> None:
        """Revoke what waits behind a task that runs longer than it was expected to. Lock held."""
        lease.stalled = True
        next(iter(lease.inflight.values())).template.cost_us = config.UNKNOWN_COST_US
        self._revoke_behind(lease)
        if len(lease.inflight) > 1 and lease.node != self._here:
            # They have left this node; the worker may not have begun them yet.
            self._send_control(lease.address, (GIVE_BACK,))
        self._fill(lease.queue)

    def _revoke_behind(self, lease: Lease) -> None:
        """Take back what the worker has not begun. Lock held."""
        for task in list(lease.inflight.values())[:0:-1]:
            if not lease.revoke(task):
                break
            self._unsend(lease, task)
            queue_of(task).push(task, first=True)

    def _demand_nothing(self, queue: SchedulingQueue) -> None:
        queue.wanted = 0
        self._tell_demand(queue)

    def _tell_demand(self, queue: SchedulingQueue) -> None:
        scheduling = queue.scheduling.to_message()
        message = {"op": "lease", "class": queue.key, **scheduling, "want": queue.wanted}
        self._node_send(message | {"near": queue.near} if queue.near else message)

    def _return(self, lease: Lease) -> None:
        """Give an idle worker back to the node. Lock held."""
        if lease not in lease.queue.leases or lease.retired:
            return
        lease.queue.leases.remove(lease)
        self._peers.pop(lease.address, None)
        self._node_send({"op": "return", "worker": lease.address})

    def _return_idle(self, other_than: SchedulingQueue) -> None:
        """Work waits in one class: idle workers of the others are of no use here. Lock held."""
        for queue in self._queues.values():
            if queue is not other_than.base and not queue.has_work:
                for lease in list(queue.leases):
                    if not lease.inflight:
                        self._return(lease)

    def _on_explained(self, message: dict[str, Any]) -> None:
        """The node says why something waits: tasks of a class, or something that is no task."""
        text = message["text"]
        with self._lock:
            queue = self._named(message.get("class", ""))
            if queue is not None:
                if not queue.pending:
                    return
                queue.warned = True  # it knows better
                text = f"{len(queue.pending)} tasks ({queue.pending[0].template.name}, ...): each {text}"
        self._warn(text)
