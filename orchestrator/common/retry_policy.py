"""How long to wait before a task is tried again."""

from __future__ import annotations

from typing import Any


class RetryPolicy:
    """The pause before each retry: `delay_s`, then `factor` times as long each time, up to `max_delay_s`.

    `@remote(max_retries=5, retry_exceptions=[ConnectionError], retry_policy=RetryPolicy(delay_s=0.5))`

    Attributes:
        delay_s: seconds before the first retry.
        factor: what the pause grows by.
        max_delay_s: what it never exceeds.
        jitter: each pause is shortened by a random part of up to this fraction, so that tasks that failed
            together do not come back together.
    """

    # Not a dataclass: that module costs a program that starts more than all others of this package together.
    __slots__ = ("delay_s", "factor", "jitter", "max_delay_s")

    def __init__(
        self, delay_s: float = 0.1, factor: float = 2.0, max_delay_s: float = 60.0, jitter: float = 0.5
    ) -> None:
        for name, value, low, high in (
            ("delay_s", delay_s, 0, 1e9),
            ("factor", factor, 1, 1e9),
            ("max_delay_s", max_delay_s, 0, 1e9),
            ("jitter", jitter, 0, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high:g}, not {value!r}")
        self.delay_s = delay_s
        self.factor = factor
        self.max_delay_s = max_delay_s
        self.jitter = jitter

    def _values(self) -> tuple[float, ...]:
        return (self.delay_s, self.factor, self.max_delay_s, self.jitter)

    def __eq__(self, other: object) -> Any:
        return self._values() == other._values() if isinstance(other, RetryPolicy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return (RetryPolicy, self._values())

    def __repr__(self) -> str:
        return "RetryPolicy(delay_s={}, factor={}, max_delay_s={}, jitter={})".format(*self._values())

    def pause_s(self, retry: int) -> float:
        """Return the seconds to wait before retry number `retry`, which counts from 1."""
        # Not the generator that a program seeds, to get the numbers it expects.
        from random import SystemRandom

        # Where the power would overflow the limit was passed long ago.
        longest = min(self.delay_s * self.factor ** min(retry - 1, 64), self.max_delay_s)
        return longest * (1 - self.jitter * SystemRandom().random())
