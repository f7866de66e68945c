"""How long to wait before a task is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Of its own, so that a program that seeds `random` gets the numbers it expects.
_random = random.Random()


@dataclass(frozen=True)
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

    delay_s: float = 0.1
    factor: float = 2.0
    max_delay_s: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("delay_s", 0, 1e9),
            ("factor", 1, 1e9),
            ("max_delay_s", 0, 1e9),
            ("jitter", 0, 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high:g}, not {value!r}")

    def pause_s(self, retry: int) -> float:
        """Return the seconds to wait before retry number `retry`, which counts from 1."""
        # Where the power would overflow the limit was passed long ago.
        longest = min(self.delay_s * self.factor ** min(retry - 1, 64), self.max_delay_s)
        return longest * (1 - self.jitter * _random.random())
