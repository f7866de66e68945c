"""Virtual time: what is to happen when, and nothing in between."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timer:
    """Something that is to happen, unless it is cancelled."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Have it not happen."""
        self._action = None

    def fire(self) -> bool:
        """Do it, if it was not cancelled; return whether it was done."""
        action, self._action = self._action, None
        if action is None:
            return False
        action()
        return True


class SimClock:
    """Seconds that pass only when nothing happens. What is due at once happens in the order of asking."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now_s

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Have something happen in `delay_s` seconds."""
        timer = Timer(action)
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + max(delay_s, 0.0), self._count, timer))
        return timer

    def run(self, duration_s: float, after_each: Callable[[], None] = lambda: None) -> None:
        """Let time pass; `after_each` is called whenever something has happened."""
        end_s = self.now_s + duration_s
        while self._queue and self._queue[0][0] <= end_s:
            self.now_s, _, timer = heapq.heappop(self._queue)
            if timer.fire():
                after_each()
        self.now_s = end_s
