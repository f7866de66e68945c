"""`tqdm` for tasks and actors: the bars of all processes appear in the driver, one below the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from orchestrator.api import bars
from orchestrator.common.ids import random_hex

#: How often a bar that moves is sent to the driver.
FLUSH_S = 0.1


class tqdm:
    """A progress bar: `for item in tqdm(items): ...`, or `bar = tqdm(total=100)`, `bar.update(10)`.

    Args:
        iterable: what to iterate over; None to move the bar by `update`.
        desc: what it is called.
        total: how far it goes; the iterable's length unless given.
        unit: what it counts.
        position: the line it is shown in; chosen unless given.
        flush_interval_s: how often it is sent to the driver while it moves.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if total is None and iterable is not None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except TypeError:
                pass
        self._iterable = iterable
        self._interval_s = FLUSH_S if flush_interval_s is None else flush_interval_s
        self._next_s = 0.0
        self._state: bars.State = {
            "uuid": random_hex(),
            "pid": os.getpid(),
            "desc": desc or "",
            "total": total,
            "n": 0,
            "unit": unit,
            "position": position,
            "closed": False,
        }
        self.refresh()

    @property
    def n(self) -> int:
        """How far it is."""
        return int(self._state["n"])

    @n.setter
    def n(self, value: int) -> None:
        self._state["n"] = value

    @property
    def total(self) -> int | None:
        """How far it goes; None if nobody knows."""
        total: int | None = self._state["total"]
        return total

    @total.setter
    def total(self, value: int | None) -> None:
        self._state["total"] = value

    def update(self, n: int = 1) -> None:
        """Move it."""
        self._state["n"] += n
        now = time.monotonic()
        if now >= self._next_s:
            self.refresh()

    def set_description(self, desc: str) -> None:
        """Call it something else."""
        self._state["desc"] = desc
        self.refresh()

    def refresh(self) -> None:
        """Send it to the driver now."""
        if not self._state["closed"]:
            self._next_s = time.monotonic() + self._interval_s
            bars.report(self._state)

    def close(self) -> None:
        """Take it away."""
        if not self._state["closed"]:
            self._state["closed"] = True
            bars.report(self._state)

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("this bar has no iterable: give it one, or move it with update()")
        try:
            for item in self._iterable:
                yield item
                self.update(1)
        finally:
            self.close()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def safe_print(*values: Any, **options: Any) -> None:
    """Print, with the bars out of the way; what workers print passes through the driver anyway."""
    bars.print_beside(*values, **options)
