"""All tasks this process has submitted: from the call to its results, with retries and cancellation.

    submit ─▶ WAITING ──arguments there──▶ QUEUED ──lease has room──▶ SENT ──reply──▶ DONE
                                             ▲                          │
                                             └─revoked, returned, died──┘

The middle part, which worker gets which task, is the dispatcher's. Entries are completed outside its
lock, as their callbacks are other people's code.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.core.entry import ERROR, Entry
from orchestrator.core.leases import Lease
from orchestrator.core.messages import CANCEL, ITEM, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.reports import describe_death, refusal
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task, Template
from orchestrator.core.values import raisable
from orchestrator.objects.plasma_adapter import is_plain

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

dumps = pickle.dumps

COST_MIN_US = config.COST_MIN_US


class TaskSubmitter(Part):
    """All tasks this process has submitted, until their replies."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._node_send = runtime.node.send
        self._pack = runtime.arguments.pack
        self._next_seq: Callable[[], int] = runtime.next_seq
        self._completion = runtime.completion
        self._dispatcher = runtime.dispatcher
        self._enqueue = runtime.dispatcher.enqueue

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

    def resubmit(self, task: Task, unready: list[Entry]) -> None:
        """Run a task that was done once more, when these arguments of it are there again."""
        if unready:
            self._runtime.arguments.wait_for(task, unready, self._ready)
        else:
            self._ready(task)

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
        self._dispatcher.answered(lease, task)

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

    # -- what the node says

    def on_infeasible(self, class_key: str, verdict: str, cause: str) -> None:
        """No worker will ever be found for this class: its tasks fail."""
        for task in self._dispatcher.on_infeasible(class_key):
            text = f"{task.template.name} can never run: {cause}"
            self._completion.fail(task, refusal(verdict, text))

    def on_died(self, lease: Lease, report: dict[str, Any]) -> None:
        """A lent worker is dead: what it had goes elsewhere, except what it ran too often."""
        lost = self._dispatcher.on_died(lease)
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

    # -- cancelling, explaining

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a task wherever it is. Its references raise TaskCancelledError from now on."""
        task.cancelled = True
        error = exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
        place = self._dispatcher.withdraw(task)
        lease = task.lease
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

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished tasks that were submitted by this run of a task."""
        return [task for task in self._dispatcher.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a task is waiting for."""
        if task.place == WAITING:
            return "waiting for its arguments"
        lease = task.lease
        if task.place == SENT and lease is not None:
            first = next(iter(lease.inflight), None)
            return f"running on pid {lease.pid}" if first == task.seq else f"next on pid {lease.pid}"
        queue = task.template.queue
        return f"queued: needs {queue.scheduling.resources}" if queue is not None else "queued"
