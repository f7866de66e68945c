"""Actors that are to be restarted after a pause: their processes are asked for when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from orchestrator.scheduling.actor_table import RequestPlacement


class RestartPauses:
    """What is to be asked for, and when."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, RequestPlacement]] = []

    def add(self, request: RequestPlacement) -> None:
        """Begin the pause of a request."""
        self._waiting.append((time.monotonic() + request.pause_s, request._replace(pause_s=0.0)))

    def due_s(self) -> float:
        """Return when the next pause is over; infinity if there is none."""
        return min((due_s for due_s, _ in self._waiting), default=math.inf)

    def take(self, now_s: float, is_wanted: Callable[[str], bool]) -> list[RequestPlacement]:
        """Forget those whose pause is over; return which of them are still wanted."""
        over = [request for due_s, request in self._waiting if due_s <= now_s]
        if over:
            self._waiting = [(due_s, request) for due_s, request in self._waiting if due_s > now_s]
        return [request for request in over if is_wanted(request.spec.actor)]
