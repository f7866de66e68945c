"""Waiting, in one thread, for what another one does with results."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.api.session import ensure_runtime
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import Waiter


class Signal:
    """A condition's waiting room. Who waits here reads the session's messages meanwhile.

    A `threading.Condition` would leave the reading to the background thread, which collects messages every
    millisecond rather than at once.
    """

    def __init__(self) -> None:
        self._runtime = ensure_runtime()
        self._waiters: list[Waiter] = []

    def check(self) -> None:
        """Raise SessionError if the session this was made in is over."""
        self._runtime.check_alive()

    def notify(self) -> None:
        """Have everyone who waits look again."""
        waiters = list(self._waiters)
        for waiter in waiters:
            waiter.satisfy()
        if waiters and self._runtime.open:
            self._runtime.pump.wake()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `ready()`, at most `timeout` seconds; return it.

        Raises:
            SessionError: the session is over.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not ready():
            self.check()
            waiter = Waiter(1, stop_at_error=False)
            self._waiters.append(waiter)
            try:
                # Looked at once more, as it may have come about before this waiter was known.
                if not ready() and not self._runtime.pump.wait(waiter, deadline):
                    return ready()
            finally:
                self._waiters.remove(waiter)
        return True
