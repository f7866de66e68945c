"""How long to wait for an answer, and how long before asking again. Clock and randomness are handed in."""

from __future__ import annotations

import random
from collections.abc import Iterator


class BackOff:
    """Pauses with full jitter: uniform in [0, bound], and the bound doubles from `first_s` to `most_s`.

    Full jitter, not a fraction: a thousand nodes that lost the same head at the same moment come back spread
    over the whole bound, and the expected number of attempts is no higher.
    """

    def __init__(self, rng: random.Random, *, first_s: float = 0.05, most_s: float = 2.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._most_s = most_s
        self._bound_s = first_s

    def next_s(self) -> float:
        """Return the next pause."""
        pause_s = self._rng.uniform(0.0, self._bound_s)
        self._bound_s = min(self._bound_s * 2, self._most_s)
        return pause_s

    def reset(self) -> None:
        """Begin again: it went well."""
        self._bound_s = self._first_s

    def __iter__(self) -> Iterator[float]:
        while True:
            yield self.next_s()


class Deadline:
    """A moment until which something may take; times are seconds of the clock that is handed in."""

    __slots__ = ("at_s",)

    def __init__(self, now_s: float, timeout_s: float) -> None:
        self.at_s = now_s + timeout_s

    def left_s(self, now_s: float) -> float:
        """Return what is left, never negative."""
        return max(0.0, self.at_s - now_s)

    def is_over(self, now_s: float) -> bool:
        """Tell whether nothing is left."""
        return now_s >= self.at_s


class Explainer:
    """Says what is waited for, first after `first_s`, then at times that double: nothing waits silently."""

    def __init__(self, *, first_s: float = 5.0) -> None:
        self._first_s = first_s
        self._since_s: float | None = None
        self._due_s = 0.0

    def waiting(self, now_s: float) -> float | None:
        """Note that the wait goes on; return for how many seconds it has, if that is to be said now."""
        if self._since_s is None:
            self._since_s, self._due_s = now_s, now_s + self._first_s
        if now_s < self._due_s:
            return None
        waited_s = now_s - self._since_s
        self._due_s = now_s + max(waited_s, self._first_s)
        return waited_s

    def over(self, now_s: float) -> float | None:
        """Note that the wait is over; return how long it was, if somebody was told of it."""
        since_s, self._since_s = self._since_s, None
        if since_s is None or now_s - since_s < self._first_s:
            return None
        return now_s - since_s
