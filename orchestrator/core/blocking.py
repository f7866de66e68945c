"""A worker whose task or method waits in `get` or `wait`.

One that waits for longer than a moment is *blocked*: its CPU goes back to the node, and the tasks queued
behind it go back to their submitters, or they might be what it waits for. One that waits for much longer, on
the main thread and without a time limit, tells the node what for, so that a circle of waiting processes is
found out (`scheduling/wait_graph.py`). The member that is told so fails the call it waits for.
"""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import ERROR, Entry, Waiter
from orchestrator.core.messages import RETURNED, UNBLOCKED
from orchestrator.core.task import SENT, WAITING, Task
from orchestrator.objects.plasma_adapter import CONTROL_MASK, WORK, WORK_MASK

if TYPE_CHECKING:
    from orchestrator.core.executor import Executor, Run

#: Calls told of one wait. A circle needs one.
CALLS_TOLD_MAX = 64


class Blocking:
    """The waits that are going on in this worker."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._runtime = executor.runtime
        self._main_ident = threading.get_ident()
        #: waits of more than a moment that are going on in threads of the running task
        self.waits = 0
        #: which task's waits those are; never 0
        self._waits_of = 1
        self._lock = threading.RLock()
        #: what the main thread waits for without a limit, and since when
        self._awaited: Entry | Waiter | None = None
        self._since = 0.0
        #: number of that wait, and whether the node knows of it
        self._wait = 0
        self._is_known = False
        self._warned = False
        self._runtime.handlers["still_waiting"] = self._on_asked
        self._runtime.handlers["deadlock"] = self._on_deadlock

    # -- beginning and end of a wait

    def enter(self, awaited: Entry | Waiter, deadline: float | None) -> int:
        """The running task waits, in whichever thread: give back its CPU and its queue.

        Returns what `leave` wants to know; 0 if nothing runs here that could be blocked.
        """
        executor = self._executor
        run = executor.running
        if run is None and executor.actor is None:
            return 0
        if threading.get_ident() == self._main_ident:
            self._warn_loop()
            if deadline is None:
                self._awaited, self._since, self._is_known = awaited, monotonic(), False
                self._wait += 1
        with self._lock:
            self.waits += 1
            if self.waits == 1:
                self._runtime.node.send({"op": "blocked"})
                if executor.actor is None and run is not None:
                    self._runtime.pump.lane_mask = CONTROL_MASK | WORK_MASK
                    self._runtime.send_control(run[0], (RETURNED, []))
                    self.send_back()
            return self._waits_of

    def leave(self, waits_of: int) -> None:
        """A wait is over; with the last one the running task goes on."""
        if threading.get_ident() == self._main_ident:
            self._end_report()
        with self._lock:
            if waits_of == self._waits_of and self.waits:
                self.waits -= 1
                if not self.waits:
                    running = self._executor.running
                    self._unblock(running[0] if running is not None else 0)

    def end_task(self, submitter: int) -> None:
        """The task is over. Threads it has left behind may wait on; that blocks nobody any more."""
        with self._lock:
            if self.waits:
                self.waits = 0
                self._waits_of += 1
                self._unblock(submitter)

    def _unblock(self, submitter: int) -> None:
        self._runtime.pump.lane_mask = CONTROL_MASK
        self._runtime.node.send({"op": "unblocked"})
        if self._executor.actor is None and submitter:
            self._runtime.send_control(submitter, (UNBLOCKED,))

    def send_back(self) -> None:
        """Send the tasks that are queued here back to their submitters, if the running one waits."""
        with self._lock:
            if self.waits and self._executor.actor is None:
                self.send_back_all()

    def send_back_all(self) -> set[int]:
        """Send back what is queued here, whatever runs; return to whom."""
        returned: dict[int, list[int]] = {}
        while (item := self._executor.endpoint.receive(WORK)) is not None:
            sender, payload = item
            returned.setdefault(sender, []).append(pickle.loads(payload)[0])
        for sender, seqs in returned.items():
            self._runtime.send_control(sender, (RETURNED, seqs))
        return set(returned)

    def give_back(self, sender: int) -> None:
        """A submitter elsewhere, who can't revoke what has left its node, wants back what has not begun."""
        with self._lock:
            if self._executor.actor is None and not self.waits:
                for submitter in self.send_back_all() | {sender}:
                    self._runtime.send_control(submitter, (UNBLOCKED,))

    # -- waiting in a circle

    def tick(self, now: float) -> None:
        """Tell the node of a wait that takes long."""
        if self._awaited is not None and not self._is_known and now - self._since > config.LONG_WAIT_S:
            self._is_known = True
            self._report(confirms=False)

    def _end_report(self) -> None:
        self._awaited = None
        if self._is_known:
            self._is_known = False
            self._runtime.node.send({"op": "waiting", "wait": self._wait, "calls": []})

    def _on_asked(self, message: dict[str, Any]) -> None:
        """The node asks whether a wait goes on; everything that had arrived has been read."""
        if message["wait"] == self._wait:
            self._report(confirms=True)

    def _report(self, *, confirms: bool) -> None:
        awaited = self._awaited
        calls = list(self._calls(awaited)) if awaited is not None and not awaited.state else []
        if not calls:
            return
        run: Run | None = self._executor.running
        self._runtime.node.send(
            {
                "op": "waiting",
                "wait": self._wait,
                "name": self._name(),
                "run": run,
                "calls": calls[:CALLS_TOLD_MAX],
                "confirms": confirms,
            }
        )

    def _name(self) -> str:
        actor = self._executor.actor
        name = self._executor.name_of_run() if actor is None else f"{actor.class_name}.{actor.what_runs()}"
        return f"{name} (pid {self._executor.pid})"

    def _calls(self, awaited: Entry | Waiter) -> dict[tuple[int, int], Entry]:
        """Return the calls this wait needs, with what each will complete."""
        found: dict[tuple[int, int], Entry] = {}
        todo = [awaited] if isinstance(awaited, Entry) else list(awaited.entries)
        while todo and len(found) < CALLS_TOLD_MAX:
            entry = todo.pop()
            task: Task | None = entry.task
            if entry.state or task is None:
                continue
            if task.place == WAITING and task.packed is not None:
                todo += [needed for _, needed in task.packed[1]]
            address = self._runtime.address_of(task)
            if address and task.place != WAITING:
                found[address, task.seq] = entry
        return found

    def _on_deadlock(self, message: dict[str, Any]) -> None:
        """The node tells that a wait of this process can never end: some call has to fail."""
        awaited = self._awaited
        if awaited is None or message["wait"] != self._wait:
            return
        for (_, number), entry in self._calls(awaited).items():
            task = entry.task
            if number in message["calls"] and task is not None:
                error = exceptions.DeadlockError(
                    f"{message['text']}: none of them can go on. Make one of them async and await, give it "
                    "max_concurrency above one, or do not wait inside the method."
                )
                entry.complete(ERROR, error)
                self._runtime.references.publish(entry)
                if task.place == SENT or task.actor is not None:
                    self._runtime.cancel_task(task, force=False, recursive=True)

    # -- waiting in a loop

    def _warn_loop(self) -> None:
        actor = self._executor.actor
        if actor is not None and actor.loop is not None and not self._warned:
            self._warned = True
            self._runtime.warn(
                f"get() or wait() inside async actor {actor.class_name} blocks all its calls: "
                "await the reference instead"
            )
