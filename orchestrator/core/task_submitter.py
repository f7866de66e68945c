"""All tasks this process has submitted: from the call to its results, with retries and cancellation.

    submit ─▶ WAITING ──arguments there──▶ QUEUED ──lease has room──▶ SENT ──reply──▶ DONE
                 │                           ▲                          │
                 └──────time to try again────┴─revoked, returned, died──┘

The middle part, which worker gets which task, is the dispatcher's. Entries are completed outside its
lock, as their callbacks are other people's code.
"""

from __future__ import annotations

import heapq
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.retry_policy import RetryPolicy
from orchestrator.core.entry import ERROR, Entry
from orchestrator.core.leases import Lease
from orchestrator.core.locality import Locality
from orchestrator.core.messages import CANCEL, CONSUMED, ITEM, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.reports import crash_error, refusal
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task, Template
from orchestrator.core.values import raisable
from orchestrator.objects.plasma_adapter import is_plain

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

dumps = pickle.dumps

COST_MIN_US = config.COST_MIN_US

#: Pauses before a task is tried again that was ended for want of memory: others may be done by then. Where
#: those who take the memory come and go all the time, more looks help, and longer pauses do not.
_OOM_PAUSES = RetryPolicy(delay_s=1.0, max_delay_s=10.0)
#: From how many such ends on its submitter hears of it, and then at each power of two.
OOM_KILLS_TOLD_MIN = 4


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
        #: chooses the queue of a task by its arguments; on one machine there is nothing to choose
        self._place: Callable[[Task], None] = Locality(runtime).place if runtime.here else lambda task: None
        #: tasks that wait for their arguments, by number
        self._waiting: dict[int, Task] = {}
        #: tasks that wait for the time of their next attempt: (time, number, task), a heap
        self.delayed: list[tuple[float, int, Task]] = []
        self._delayed_lock = threading.Lock()

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
                else:
                    self._waiting[seq] = task
                    if task.place != WAITING:  # they have come meanwhile
                        self._waiting.pop(seq, None)
                return result
            if task.held is not None:
                self._place(task)
        self._enqueue(task)
        return result

    def resubmit(self, task: Task, unready: list[Entry]) -> None:
        """Run a task that was done once more, when these arguments of it are there again."""
        if unready:
            self._waiting[task.seq] = task
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
                self._waiting.pop(task.seq, None)
                return
        # In this order, as `submit` notes the task before it looks whether that still waits.
        task.place = QUEUED
        self._waiting.pop(task.seq, None)
        if task.held is not None:
            self._place(task)
        self._enqueue(task)

    # -- replies

    def on_reply(self, lease: Lease, message: tuple[Any, ...]) -> None:
        """A worker has answered. May be called twice with the same message."""
        seq, kind, value, spent_us = message
        task = lease.inflight.get(seq)
        if task is None:
            return
        if kind == ITEM:
            taken = self._completion.item(task, value)
            if taken:
                self._runtime.send_control(lease.address, (CONSUMED, seq, taken))
            return
        template = task.template
        if kind < ERROR and task.stream is None:
            # The common case, without detours: one value that arrived with the message, or is stored.
            task.place = DONE
            self._completion.fill(task.returns[0], kind, value)
            task.held = None
        elif template.retry_exceptions and self._retries(task, self._completion.raised(kind, value)):
            pass
        else:
            self._completion.settle(task, kind, value)
        cost = template.cost_us
        cost += (
            int((spent_us - cost) * config.EWMA_WEIGHT) if cost != config.UNKNOWN_COST_US else spent_us - cost
        )
        template.cost_us = cost if cost > COST_MIN_US else COST_MIN_US
        self._dispatcher.answered(lease, task)

    # -- trying again

    def _retries(self, task: Task, error: bytes | None) -> bool:
        """Decide whether the exception is one to retry; if so the task will be queued again."""
        template = task.template
        if error is None or task.cancelled or (0 <= template.max_retries <= task.attempts):
            return False
        if template.retry_exceptions is not True and not template.chooses(raisable(error)):
            return False
        task.attempts += 1
        if template.retry_policy is None:
            task.place = QUEUED
        else:
            task.place = WAITING
            self.delay(task, template.retry_policy.pause_s(task.attempts))
        return True

    def delay(self, task: Task, pause_s: float) -> None:
        """Have a task queued again when the pause before its next attempt is over."""
        due_s = monotonic() + pause_s
        with self._delayed_lock:
            heapq.heappush(self.delayed, (due_s, task.seq, task))

    def tick(self, now_s: float) -> float:
        """Queue the tasks whose time has come; return the seconds until the next one's."""
        while True:
            with self._delayed_lock:
                if not self.delayed or self.delayed[0][0] > now_s:
                    return self.delayed[0][0] - now_s if self.delayed else config.TICK_S
                _, _, task = heapq.heappop(self.delayed)
            if task.actor is None:
                self._dispatcher.requeue(task)
            else:
                self._runtime.actors.ready(task)

    # -- what the node says

    def on_infeasible(self, class_key: str, verdict: str, cause: str) -> None:
        """No worker will ever be found for this class: its tasks fail."""
        for task in self._dispatcher.on_infeasible(class_key):
            text = f"{task.template.name} can never run: {cause}"
            self._completion.fail(task, refusal(verdict, text))

    def on_died(self, lease: Lease, report: dict[str, Any]) -> None:
        """A lent worker is dead. What it ran is tried again while its budget lasts."""
        task = self._dispatcher.on_died(lease)
        if task is None:
            return
        out_of_memory = bool(report.get("out_of_memory"))
        limit = task.template.max_retries
        if out_of_memory and limit:
            # A budget of its own: that others took the memory is no fault of this task's. If there were any.
            limit = task.oom_kills if report.get("alone") else config.OOM_RETRIES
        used = task.oom_kills if out_of_memory else task.attempts
        error = crash_error(task, report, used, limit)
        if task.cancelled or (0 <= limit <= used) or _is_final(error, task.template):
            if task.cancelled:
                error = exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
            self._completion.give_back(task)
            self._completion.fail(task, error)
            return
        if out_of_memory:
            task.oom_kills += 1
            self._tell_of_memory(task, report)
            self.delay(task, _OOM_PAUSES.pause_s(task.oom_kills))
            return
        task.attempts += 1
        policy = task.template.retry_policy
        if policy is not None:
            self.delay(task, policy.pause_s(task.attempts))
        else:
            self._dispatcher.requeue(task)

    def _tell_of_memory(self, task: Task, report: dict[str, Any]) -> None:
        kills = task.oom_kills
        if kills >= OOM_KILLS_TOLD_MIN and not kills & (kills - 1):
            self._runtime.warn(
                f"{task.template.name} was ended for want of memory {kills} times, and is tried again until "
                "there is enough. Say what it needs (memory=...), or let fewer run at once. "
                f"{report['reason']}"
            )

    # -- cancelling, explaining

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a task wherever it is. Its references raise TaskCancelledError from now on."""
        task.cancelled = True
        text = f"{task.template.name} was cancelled"
        error = exceptions.TaskCancelledError(text)
        place = self._dispatcher.withdraw(task)
        lease = task.lease
        if place == SENT and lease is not None:
            if force:
                error = exceptions.TaskKilledError(f"{text} with force=True while it ran")
                self._node_send(
                    {"op": "kill_worker", "worker": lease.address, "reason": "cancelled with force=True"}
                )
            self._runtime.send_control(lease.address, (CANCEL, task.seq, recursive))
        if place == DONE:
            return
        # The worker may be deaf to the interrupt; whoever waits for the result need not be. The
        # task's place stays as it is: its lease is busy until the reply.
        self._completion.cancel(task, error)
        if place in (WAITING, QUEUED):
            self._waiting.pop(task.seq, None)
            task.held = task.message = task.packed = None
            if task.attempts:
                self._completion.give_back(task)

    def unfinished(self) -> list[Task]:
        """Return all tasks whose results are not known."""
        with self._delayed_lock:
            delayed = [task for _, _, task in self.delayed if task.actor is None]
        return [*self._dispatcher.unfinished(), *self._waiting.copy().values(), *delayed]

    def cancel_unless_begun(self, task: Task) -> bool:
        """Cancel a task if it has not begun to run; tell whether it was."""
        if self._dispatcher.withdraw(task) not in (WAITING, QUEUED):
            return False
        task.cancelled = True
        self._waiting.pop(task.seq, None)
        if task.attempts:
            self._completion.give_back(task)
        self._completion.fail(task, exceptions.TaskCancelledError(f"{task.template.name} was cancelled"))
        return True

    def is_running(self, task: Task) -> bool:
        """Tell whether a task has begun to run and is not over."""
        return self._dispatcher.is_first(task)

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished tasks that were submitted by this run of a task."""
        return [task for task in self.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a task is waiting for."""
        if task.place == WAITING:
            if task.seq in self._waiting:
                return "waiting for its arguments"
            return f"waiting for its attempt number {task.attempts + task.oom_kills + 1}"
        lease = task.lease
        if task.place == SENT and lease is not None:
            first = next(iter(lease.inflight), None)
            return f"running on pid {lease.pid}" if first == task.seq else f"next on pid {lease.pid}"
        queue = task.template.queue
        return f"queued: needs {queue.scheduling.resources}" if queue is not None else "queued"


def _is_final(error: exceptions.OrchestratorError, template: Template) -> bool:
    """Tell whether a task that met such an end is not tried again, whatever its budget."""
    if isinstance(error, exceptions.TaskTimeoutError):
        return not template.chooses(
            error
        )  # an exception like others, though the process had to be ended for it
    return isinstance(error, exceptions.TaskPlacementGroupRemoved)
