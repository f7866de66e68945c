"""The one place that reads the time, so that tests can put another clock in its stead."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that never go backwards; only differences mean something.
Clock = Callable[[], float]

monotonic: Clock = time.monotonic


def remaining(deadline: float | None, clock: Clock = monotonic) -> float | None:
    """Seconds until `deadline` (never negative), or None when there is none."""
    if deadline is None:
        return None
    return max(0.0, deadline - clock())
