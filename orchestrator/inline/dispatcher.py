"""Which worker gets a task: this process, at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.core.leases import Lease, SchedulingQueue
from orchestrator.core.part import Part
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task
from orchestrator.inline.executor import InlineExecutor

if TYPE_CHECKING:
    from orchestrator.inline.runtime import InlineRuntime


class InlineDispatcher(Part):
    """Runs each task as soon as it is queued, and again while its place says that it is to be retried."""

    has_leases = False

    def __init__(self, runtime: InlineRuntime) -> None:
        self._runtime = runtime
        self._queues: dict[str, SchedulingQueue] = {}
        #: the one lease there is: this process
        plain = self.queue_for(SchedulingClass(ResourceSet()))
        self.lease = Lease(plain, runtime.store.address, os.getpid(), None)  # type: ignore[arg-type]
        self.lease_idle_s = config.LEASE_IDLE_S
        #: executors that run nothing now
        self._idle: list[InlineExecutor] = []
        #: numbers of the tasks that `enqueue` is running
        self._running: set[int] = set()

    def queue_for(self, scheduling: SchedulingClass) -> SchedulingQueue:
        """Return what tasks of this class are submitted with."""
        key = scheduling.key()
        return self._queues.setdefault(key, SchedulingQueue(scheduling, key))

    def close(self) -> None:
        """Let go of everything."""
        self._queues.clear()
        self._idle.clear()

    def enqueue(self, task: Task) -> None:
        """Run a task, and again after a failure that is to be retried."""
        while task.place == QUEUED:
            refusal = self._runtime.node.refusal(task.template.queue)
            if refusal is not None:
                text = f"{task.template.name} {refusal}"
                self._runtime.completion.fail(task, exceptions.InfeasibleError(text))
                return
            self._run(task)
            if task.place == WAITING:
                self._sit_out(task)

    def _sit_out(self, task: Task) -> None:
        """Sleep for the pause before the task's next attempt."""
        delayed = self._runtime.tasks.delayed
        while task.place == WAITING and delayed:
            time.sleep(max(0.0, delayed[0][0] - monotonic()))
            self._runtime.tasks.tick(monotonic())

    def requeue(self, task: Task) -> None:
        """Let a task run again."""
        if task.place == WAITING:
            task.place = QUEUED

    def _run(self, task: Task) -> None:
        task.place = SENT
        task.lease = self.lease
        self.lease.inflight[task.seq] = task
        executor = self._idle.pop() if self._idle else InlineExecutor(self._runtime)
        self._running.add(task.seq)
        try:
            executor.carry_out(task.message)  # type: ignore[arg-type]
        finally:
            self._running.discard(task.seq)
            generator = self._runtime.generators.get(task.seq)
            if generator is None:
                self._idle.append(executor)
            else:
                generator.on_end = lambda: self._idle.append(executor)

    def answered(self, lease: Lease, task: Task) -> None:
        """Note that a task is done, or is to run again."""
        lease.inflight.pop(task.seq, None)
        if task.place == QUEUED and task.seq not in self._running:
            self.enqueue(task)  # a generator that failed at a later item

    def withdraw(self, task: Task) -> int:
        """Take a task back if it has not begun; return where it was."""
        place = task.place
        if place in (WAITING, QUEUED):
            task.place = DONE
        return place

    def unfinished(self) -> list[Task]:
        """Return the tasks that have begun and not ended."""
        return list(self.lease.inflight.values())

    def tick(self, now: float) -> float:
        """Nothing is ever due."""
        return config.TICK_S
