"""A progress bar over references."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from orchestrator.api.waiting import wait
from orchestrator.core.object_ref import ObjectRef

T = TypeVar("T")

#: In a log, a line for every so many seconds; on a terminal, pictures per second.
LOG_INTERVAL_S = 5.0
REFRESH_INTERVAL_S = 0.1


def progress(
    refs: Sequence[ObjectRef[T]], *, description: str = "tasks", timeout: float | None = None
) -> list[ObjectRef[T]]:
    """Wait for all references and show how far they are; return them, in order, ready for `get`.

    On a terminal it is a bar, if `rich` is installed; otherwise, and in logs, plain lines.

    Raises:
        TimeoutError: `timeout` seconds passed.
    """
    given = list(refs)
    with _display(description, len(given)) as show:
        deadline = None if timeout is None else time.monotonic() + timeout
        rest = given
        while rest:
            _, rest = wait(rest, num_returns=len(rest), timeout=REFRESH_INTERVAL_S)
            show(len(given) - len(rest))
            if rest and deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{len(rest)} of {len(given)} {description} not done after {timeout:g} s")
    return given


def _display(description: str, total: int) -> Any:
    if sys.stderr.isatty():
        try:
            return _RichBar(description, total)
        except ImportError:
            pass
    return _Lines(description, total)


class _Lines:
    """Plain lines, seldom: for logs."""

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = total
        self._began = time.monotonic()
        self._next_s = self._began + LOG_INTERVAL_S
        self._done = 0

    def __enter__(self) -> Any:
        return self.show

    def __exit__(self, *_: object) -> None:
        self._print()

    def show(self, done: int) -> None:
        """Note how many are done; print it if the last line is old."""
        self._done = done
        now = time.monotonic()
        if now >= self._next_s and done < self._total:
            self._next_s = now + LOG_INTERVAL_S
            self._print()

    def _print(self) -> None:
        spent_s = time.monotonic() - self._began
        print(
            f"{self._description}: {self._done}/{self._total} in {spent_s:.1f} s", file=sys.stderr, flush=True
        )


class _RichBar:
    """A bar on a terminal."""

    def __init__(self, description: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(description, total=total)

    def __enter__(self) -> Any:
        self._progress.start()
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
