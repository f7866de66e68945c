"""A generator with back-pressure waits when it is too far ahead of its reader."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from orchestrator.core.cancellation import TaskInterrupt
from orchestrator.core.entry import Waiter

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

Run = tuple[int, int]


class BackPressure:
    """What was taken of the generators that run in this process, and which of them wait."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: items taken, by run; only of generators with back-pressure
        self.taken: dict[Run, int] = {}
        self._waiting: dict[Run, Waiter] = {}

    def on_consumed(self, sender: int, seq: int, count: int) -> None:
        """The receiver of a generator has taken `count` items so far."""
        run = (sender, seq)
        self.taken[run] = max(count, self.taken.get(run, 0))
        self.wake(run)

    def wake(self, run: Run) -> None:
        """Have a generator that waits look again whether it goes on."""
        waiter = self._waiting.pop(run, None)
        if waiter is not None:
            waiter.satisfy()
            self._runtime.endpoint.ring()

    def forget(self, run: Run) -> None:
        """The generator has ended."""
        self.taken.pop(run, None)

    def pause_for(self, run: Run, ahead_max: int | None, cancelled: Container[Run]) -> Callable[[int], None]:
        """Return what a generator does between items: wait until it is not too far ahead.

        That raises TaskInterrupt once the run is among the cancelled.
        """
        if ahead_max:
            self.taken[run] = 0

        def pause(count: int) -> None:
            while ahead_max and count - self.taken[run] >= ahead_max and run not in cancelled:
                # On the list before the last look, so that nobody goes unheard in between.
                waiter = self._waiting[run] = Waiter(1, stop_at_error=False)
                if count - self.taken[run] >= ahead_max and run not in cancelled:
                    self._runtime.pump.wait(waiter)
            if run in cancelled:
                raise TaskInterrupt("the task was cancelled")

        return pause
