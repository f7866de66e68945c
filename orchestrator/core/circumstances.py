"""What a task's options change about the process that runs it, while it runs.

Most tasks change nothing and never come here. One that holds other resources than a CPU has the library
threads, and sees the devices, that go with them; one in a placement group or with a priority hands it on to
its children; one with a name goes by it; the last of its `max_calls` is the process's last task. One with
`timeout_s`, or such a call of an actor, is interrupted when it has had its time.
"""

from __future__ import annotations

import faulthandler
import threading
from typing import TYPE_CHECKING, Any

from orchestrator.common import config
from orchestrator.common.task_context import PLAIN_CONTEXT, TaskContext
from orchestrator.core.threads import LibraryThreads
from orchestrator.core.visible_devices import VisibleDevices
from orchestrator.exceptions import TaskTimeoutError

if TYPE_CHECKING:
    from orchestrator.core.executor import Executor, Run

PLAIN_RESOURCES = {"CPU": 1.0}


class Circumstances:
    """The circumstances of the task that runs in this process."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._threads = LibraryThreads(executor.runtime.info.get("threads_variables") or [])
        self._contexts = executor.runtime.contexts
        #: the context to go back to when the task is over
        self._outer = PLAIN_CONTEXT
        self.devices = VisibleDevices(executor.runtime.node)
        self._calls: dict[Any, int] = {}
        self._timer: threading.Timer | None = None
        self._timeout_s = 0.0
        self.resources: dict[str, float] = PLAIN_RESOURCES
        self.name: str | None = None
        #: the run whose time is over
        self.overdue: Run | None = None

    def enter(self, run: Run, key: Any, options: dict[str, Any]) -> None:
        """A task is about to run: the function `key`."""
        self.name = options.get("name")
        if "context" in options:
            self._outer = self._contexts.current
            self._contexts.enter(TaskContext.from_wire(options["context"]))
        self.hold(options.get("resources", PLAIN_RESOURCES))
        limit = options.get("max_calls")
        if limit:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls >= limit:
                self._executor.retire(run)

    def leave(self) -> None:
        """It has run, and its reply is sent."""
        self.name = None
        self._contexts.enter(self._outer)
        self.hold(PLAIN_RESOURCES)

    def hold(self, resources: dict[str, float]) -> None:
        """From now on the process holds these resources: its libraries have as many threads as it has CPUs,
        and see the devices that are its own.
        """
        self.resources = resources
        self.devices.hold(resources)
        self._threads.set(max(1, int(resources.get("CPU", 1))))

    def start_clock(self, run: Run, timeout_s: float) -> None:
        """The user's code begins: from now on its time is counted."""
        self._timeout_s = timeout_s
        self._timer = threading.Timer(timeout_s, self._time_is_over, (run,))
        self._timer.daemon = True
        self._timer.start()
        # Code that neither hears the interrupt nor lets other threads run is ended by a thread of C's, which
        # says where it was.
        faulthandler.dump_traceback_later(timeout_s + config.TIMEOUT_GRACE_S, exit=True)

    def stop_clock(self) -> None:
        """The code with the time limit is over."""
        if self._timer is not None:
            faulthandler.cancel_dump_traceback_later()
            self._timer.cancel()
            self._timer = None

    def _time_is_over(self, run: Run) -> None:
        self.overdue = run
        self._executor.interrupt(run)

    def timeout_error(self, name: str) -> TaskTimeoutError:
        """Return the error of a task that took too long."""
        return timeout_error(name, self._timeout_s)


def timeout_error(name: str, timeout_s: float) -> TaskTimeoutError:
    """Return the error of a task or call that took longer than it might."""
    return TaskTimeoutError(f"{name} ran longer than timeout_s={timeout_s:g} and was interrupted")
