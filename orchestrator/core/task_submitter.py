"""Gets tasks to workers: queues per scheduling class, leases, pipelining, retries.

A *lease* is a worker the node lends to this process for one scheduling class. Tasks go straight
into its channel, several at once when they are short: what a function takes is averaged from
the replies, and a lease is filled up to PIPELINE_US of expected work. The expectation may be wrong, so
`tick` looks at every lease with more than one task every few milliseconds; where the same task is
still at the head, the ones behind it are revoked and go elsewhere. So no task waits long behind
another that turned out to be slow.

Two threads may be here at once, one that submits and one that reads replies; `lock` guards queues
and leases. Entries are completed outside it, as their callbacks are other people's code.

    submit ─▶ WAITING ──arguments there──▶ QUEUED ──lease has room──▶ SENT ──reply──▶ DONE
                                             ▲                          │
                                             └─revoked, returned, died──┘
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.resources import ResourceSet
from orchestrator.core.entry import ERROR, Entry
from orchestrator.core.leases import Lease, SchedulingQueue
from orchestrator.core.messages import CANCEL, ITEM, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task, Template
from orchestrator.core.values import raisable
from orchestrator.objects.plasma_adapter import WORK, PeerDiedError, is_plain

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

dumps = pickle.dumps

PIPELINE_US = config.PIPELINE_US
COST_MIN_US = config.COST_MIN_US

#: The most workers asked for at once for one class.
DEMAND_MAX = 256

#: Every so many submissions with a full pipeline, the submitting thread reads replies itself.
POLL_EVERY = 16


class TaskSubmitter(Part):
    """All tasks this process has submitted, until their replies."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._endpoint = runtime.endpoint
        self._node_send = runtime.node.send
        self._peers = runtime.peers
        self._pump = runtime.pump
        self._pack = runtime.arguments.pack
        self._next_seq: Callable[[], int] = runtime.next_seq
        self._completion = runtime.completion
        self.lock = threading.RLock()
        self._queues: dict[str, SchedulingQueue] = {}
        #: how long a lease without work is kept; a worker keeps it shorter than a driver
        self.lease_idle_s = config.LEASE_IDLE_S

    def queue_for(self, resources: ResourceSet) -> SchedulingQueue:
        """Return the queue of the scheduling class with these resources."""
        key = resources.key() or "none"
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues.setdefault(key, SchedulingQueue(resources))
        return queue

    @property
    def has_leases(self) -> bool:
        """Whether somebody should call `tick` before long."""
        return any(queue.leases for queue in self._queues.values())

    def close(self) -> None:
        """Let go of everything; templates that users' functions keep still refer to the queues."""
        for queue in self._queues.values():
            queue.pending.clear()
            queue.leases.clear()

    # -- submitting

    def submit(self, template: Template, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Submit a call: an ObjectRef, a list of them, a generator, or None, as `num_returns` says."""
        runtime = self._runtime
        seq = self._next_seq()
        task = Task(seq, template, runtime.current_task)
        num_returns = template.num_returns
        if num_returns == 1:
            entry = Entry(seq << 24, 0, None, task)
            task.returns.append(entry)
            result: Any = ObjectRef(entry, runtime)
        else:
            result = runtime.make_returns(task)
        if not kwargs and template.options is None and is_plain(args):
            task.message = dumps((seq, template.key, args), PROTOCOL)
        else:
            self._pack(task, args, kwargs, self._ready)
            if task.message is None:
                if task.place == QUEUED:
                    self._ready(task)
                return result
        self._enqueue(task)
        return result

    def _ready(self, task: Task) -> None:
        """The references among a task's arguments have become values, or one of them an error."""
        if task.place == DONE or task.cancelled:
            return
        if task.message is None:
            try:
                error = self._runtime.arguments.resolve(task)
            except Exception as reason:
                error = reason
            if error is not None:
                self._completion.fail(task, error)
                return
        task.place = QUEUED
        self._enqueue(task)

    def _enqueue(self, task: Task) -> None:
        queue: SchedulingQueue = task.template.queue  # type: ignore[assignment]
        pending = queue.pending
        with self.lock:
            if not pending:
                lease = queue.pick(task.template.cost_us)
                if lease is not None and self._send(lease, task):
                    return
            pending.append(task)
            waiting = len(pending)
            if not queue.wanted or waiting > 2 * queue.wanted:
                self._demand(queue)
        if not waiting % POLL_EVERY and queue.leases:
            self._pump.poll()

    def _send(self, lease: Lease, task: Task) -> bool:
        """Put the task into the lease's channel. False if it cannot take it now. Lock held."""
        cost = task.template.cost_us
        seq = task.seq
        # Everything is in place before the message leaves: the reply may come at once, and an
        # interrupt between two lines must find the task somewhere.
        task.place = SENT
        task.lease = lease
        task.charged_us = cost
        lease.inflight[seq] = task
        lease.load_us += cost
        lease.used = True
        try:
            task.ticket = lease.sender.send(task.message)  # type: ignore[union-attr, arg-type]
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
                return
            pending.popleft()

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

    # -- replies

    def on_reply(self, lease: Lease, message: tuple[Any, ...]) -> None:
        """A worker has answered. May be called twice with the same message."""
        seq, kind, value, spent_us = message
        task = lease.inflight.get(seq)
        if task is None:
            return
        if kind == ITEM:
            self._completion.item(task, value)
            return
        template = task.template
        if kind < ERROR and task.stream is None:
            # The common case, without detours: one value that arrived with the message, or is stored.
            task.place = DONE
            self._completion.fill(task.returns[0], kind, value)
            task.held = None
        elif kind == ERROR and template.retry_exceptions and self._retries(task, value):
            pass
        else:
            self._completion.settle(task, kind, value)
        cost = template.cost_us
        cost += (
            int((spent_us - cost) * config.EWMA_WEIGHT) if cost != config.UNKNOWN_COST_US else spent_us - cost
        )
        template.cost_us = cost if cost > COST_MIN_US else COST_MIN_US
        with self.lock:
            if lease.inflight.pop(seq, None) is not None:
                lease.load_us -= task.charged_us
            lease.stalled = False
            queue = lease.queue
            if task.place == QUEUED:
                queue.pending.append(task)
            pending = queue.pending
            if pending:
                self._refill(lease, queue)
            elif queue.contended_until and not lease.inflight and not lease.paused:
                self._return(lease)

    def _refill(self, lease: Lease, queue: SchedulingQueue) -> None:
        """A lease has room again: the shortest way from the queue into its channel. Lock held."""
        pending = queue.pending
        while pending and not lease.paused:
            task = pending[0]
            if task.place != QUEUED:
                # Cancelled; or sent, and an interrupt came before it was taken off the queue.
                pending.popleft()
                continue
            load = lease.load_us
            if load and load + task.template.cost_us > PIPELINE_US:
                return
            if not self._send(lease, task):
                return
            pending.popleft()

    def _retries(self, task: Task, error: bytes) -> bool:
        """Decide whether the exception is one to retry; if so the task is queued again."""
        template = task.template
        if task.cancelled or (0 <= template.max_retries <= task.attempts):
            return False
        chosen = template.retry_exceptions
        if chosen is not True:
            cause = getattr(raisable(error), "cause", None)
            if not isinstance(cause, chosen):  # type: ignore[arg-type]
                return False
        task.attempts += 1
        task.place = QUEUED
        return True

    # -- what the node and the workers say

    def on_granted(self, class_key: str, address: int, pid: int) -> None:
        """The node lends a worker."""
        queue = self._queues.get(class_key)
        if queue is None:
            self._node_send({"op": "return", "worker": address})
            return
        with self.lock:
            if address in self._peers:
                return
            queue.wanted = max(0, queue.wanted - 1)
            try:
                sender = self._endpoint.sender(address, WORK)
            except PeerDiedError:
                self._fill(queue)  # asks for another
                return
            queue.waiting_since = monotonic()
            lease = Lease(queue, address, pid, sender)
            lease.idle_since = queue.waiting_since
            self._peers[address] = lease
            queue.leases.append(lease)
            self._fill(queue)

    def on_reclaim(self, class_key: str) -> None:
        """Others wait for resources: give back what is idle now."""
        queue = self._queues.get(class_key)
        if queue is not None:
            with self.lock:
                queue.contended_until = monotonic() + config.CONTENDED_S
                for lease in list(queue.leases):
                    if not lease.inflight and not queue.pending:
                        self._return(lease)

    def on_infeasible(self, class_key: str, total: dict[str, float]) -> None:
        """No node will ever have what this class needs: its tasks fail."""
        queue = self._queues.get(class_key)
        if queue is None:
            return
        with self.lock:
            queue.wanted = 0
            doomed = list(queue.pending)
            queue.pending.clear()
        have = ResourceSet.from_floats(total)
        for task in doomed:
            text = f"{task.template.name} needs {queue.resources}, the node has {have} in total"
            self._completion.fail(task, exceptions.InfeasibleError(text))

    def on_returned(self, lease: Lease, seqs: list[int]) -> None:
        """A worker's task waits for others, so it sends its queued tasks back."""
        with self.lock:
            lease.paused = True
            for seq in reversed(seqs):
                task = lease.inflight.get(seq)
                if task is not None:
                    self._unsend(lease, task)
                    lease.queue.pending.appendleft(task)
            self._fill(lease.queue)

    def on_unblocked(self, lease: Lease) -> None:
        """The worker's task goes on, so the worker will take others again."""
        with self.lock:
            lease.paused = False
            self._fill(lease.queue)

    def on_died(self, lease: Lease, report: dict[str, Any]) -> None:
        """A lent worker is dead: what it had goes elsewhere, except what it ran too often."""
        from orchestrator.core.reports import describe_death

        lost: Task | None = None
        with self.lock:
            queue = lease.queue
            self._peers.pop(lease.address, None)
            if lease in queue.leases:
                queue.leases.remove(lease)
            tasks = list(lease.inflight.values())
            lease.inflight.clear()
            lease.sender = None
            if tasks:
                lost, *queued = tasks
                for task in reversed(queued):
                    task.place = QUEUED
                    queue.pending.appendleft(task)
                again = lost.template.max_retries < 0 or lost.attempts < lost.template.max_retries
                if again and not lost.cancelled:
                    lost.attempts += 1
                    lost.place = QUEUED
                    queue.pending.appendleft(lost)
                    lost = None
            self._fill(queue)
        if lost is not None:
            self._completion.give_back(lost)
            if lost.cancelled:
                self._completion.fail(
                    lost, exceptions.TaskCancelledError(f"{lost.template.name} was cancelled")
                )
            else:
                text = f"the worker that ran {lost.template.name} died: {describe_death(report)}"
                if lost.attempts:
                    text += f" (after {lost.attempts} retries)"
                self._completion.fail(lost, exceptions.WorkerCrashedError(text))

    # -- time

    def tick(self, now: float) -> float:
        """Look after leases; return the seconds until the next look is due."""
        due = config.TICK_S
        with self.lock:
            for queue in self._queues.values():
                if queue.contended_until and now > queue.contended_until:
                    queue.contended_until = 0.0
                if queue.pending:
                    self._fill(queue)
                    self._explain_wait(queue, now)
                elif queue.wanted:
                    self._demand_nothing(queue)
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
        head, *behind = lease.inflight.values()
        head.template.cost_us = config.UNKNOWN_COST_US
        for task in reversed(behind):
            if not lease.revoke(task):
                break
            self._unsend(lease, task)
            lease.queue.pending.appendleft(task)
        self._fill(lease.queue)

    def _demand_nothing(self, queue: SchedulingQueue) -> None:
        queue.wanted = 0
        self._tell_demand(queue)

    def _tell_demand(self, queue: SchedulingQueue) -> None:
        resources = queue.resources.to_floats()
        self._node_send({"op": "lease", "class": queue.key, "resources": resources, "want": queue.wanted})

    def _return(self, lease: Lease) -> None:
        """Give an idle worker back to the node. Lock held."""
        if lease not in lease.queue.leases:
            return
        lease.queue.leases.remove(lease)
        self._peers.pop(lease.address, None)
        self._node_send({"op": "return", "worker": lease.address})

    def _return_idle(self, other_than: SchedulingQueue) -> None:
        """Work waits in one class: idle workers of the others are of no use here. Lock held."""
        for queue in self._queues.values():
            if queue is not other_than and not queue.pending:
                for lease in list(queue.leases):
                    if not lease.inflight:
                        self._return(lease)

    def _explain_wait(self, queue: SchedulingQueue, now: float) -> None:
        if queue.leases or queue.warned or now - queue.waiting_since < config.UNPLACED_WARNING_S:
            return
        queue.warned = True
        self._runtime.warn(
            f"{len(queue.pending)} tasks ({queue.pending[0].template.name}, ...) have waited for a worker: "
            f"each needs {queue.resources}. Other tasks or actors hold the resources."
        )

    # -- cancelling, explaining

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a task wherever it is. Its references raise TaskCancelledError from now on."""
        task.cancelled = True
        error = exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
        with self.lock:
            place, lease = task.place, task.lease
            if place == SENT and lease is not None and lease.revoke(task):
                self._unsend(lease, task)
                place = QUEUED
                self._fill(lease.queue)
            if place in (WAITING, QUEUED):
                task.place = DONE  # so that nobody sends it from here on
        if place == SENT and lease is not None:
            if force:
                self._node_send(
                    {"op": "kill_worker", "worker": lease.address, "reason": "cancelled with force=True"}
                )
            self._runtime.send_control(lease.address, (CANCEL, task.seq, recursive))
        if place == DONE:
            return
        # The worker may be deaf to the interrupt; whoever waits for the result need not be. The
        # task's place stays as it is: its lease is busy until the reply.
        for entry in task.returns:
            entry.complete(ERROR, error)
            if entry.hold is not None:
                self._runtime.references.publish(entry)
        if task.stream is not None:
            task.stream.finish(error, None)
        if place in (WAITING, QUEUED):
            task.held = task.message = task.packed = None
            if task.attempts:
                self._completion.give_back(task)

    def unfinished(self) -> list[Task]:
        """Return all tasks that are queued or with a worker."""
        with self.lock:
            found: list[Task] = []
            for queue in self._queues.values():
                found += queue.pending
                for lease in queue.leases:
                    found += lease.inflight.values()
        return found

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished tasks that were submitted by this run of a task."""
        return [task for task in self.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a task is waiting for."""
        if task.place == WAITING:
            return "waiting for its arguments"
        lease = task.lease
        if task.place == SENT and lease is not None:
            first = next(iter(lease.inflight), None)
            return f"running on pid {lease.pid}" if first == task.seq else f"next on pid {lease.pid}"
        queue = task.template.queue
        return f"queued: needs {queue.resources}" if queue is not None else "queued"
