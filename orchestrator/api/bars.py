"""Progress bars of tasks and actors, shown by the driver.

A bar's state goes to the driver in a message now and then; nothing waits for it. On a terminal with `tqdm`
installed the driver shows real bars, one below the other; elsewhere a line for each bar that begins, ends, or
has moved for LINE_S.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from orchestrator.core.current import current
from orchestrator.core.messages import PROGRESS

#: In a log, a line for each bar every so many seconds.
LINE_S = 5.0

#: What a bar says of itself: `uuid`, `pid`, `desc`, `total`, `n`, `unit`, `position`, `closed`.
State = dict[str, Any]


def report(state: State) -> None:
    """Have the driver show this state of a bar; in the driver itself, show it."""
    runtime = current()
    if runtime is None or runtime.executor is None:
        _shown.show(state)
    elif runtime.open:
        runtime.send_control(runtime.info["driver_address"], (PROGRESS, state))


def on_progress(sender: int, state: State) -> None:
    """A worker reports a bar."""
    _shown.show(state)


def print_beside(*values: Any, **options: Any) -> None:
    """`print`, with the bars out of the way."""
    _shown.print(*values, **options)


class _Shown:
    """The bars this process shows."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: dict[str, Any] = {}

    def show(self, state: State) -> None:
        with self._lock:
            bar = self._bars.get(state["uuid"])
            if bar is None:
                if state["closed"] and not state["n"]:
                    return
                bar = self._bars[state["uuid"]] = _new_bar(state, len(self._bars))
            bar.show(state)
            if state["closed"]:
                self._bars.pop(state["uuid"]).close()

    def print(self, *values: Any, **options: Any) -> None:
        with self._lock:
            for bar in self._bars.values():
                bar.hide()
            print(*values, **options)
            for bar in self._bars.values():
                bar.unhide()


_shown = _Shown()


def _new_bar(state: State, position: int) -> Any:
    if sys.stderr.isatty():
        try:
            return _Bar(state, position)
        except ImportError:
            pass
    return _Lines()


class _Bar:
    """A bar on a terminal."""

    def __init__(self, state: State, position: int) -> None:
        from tqdm import tqdm

        chosen = state["position"]
        self._bar = tqdm(
            total=state["total"],
            unit=state["unit"] or "it",
            position=position if chosen is None else chosen,
            leave=False,
            dynamic_ncols=True,
        )

    def show(self, state: State) -> None:
        bar = self._bar
        bar.set_description(_title(state), refresh=False)
        bar.total = state["total"]
        bar.n = state["n"]
        bar.refresh()

    def hide(self) -> None:
        self._bar.clear()

    def unhide(self) -> None:
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """Plain lines, seldom: for logs."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def show(self, state: State) -> None:
        now = time.monotonic()
        if now < self._next_s and not state["closed"]:
            return
        self._next_s = now + LINE_S
        total = "" if state["total"] is None else f"/{state['total']}"
        unit = state["unit"] or "it"
        end = ", done" if state["closed"] else ""
        print(f"{_title(state)}: {state['n']}{total} {unit}{end}", file=sys.stderr, flush=True)

    def hide(self) -> None: ...

    def unhide(self) -> None: ...

    def close(self) -> None: ...


def _title(state: State) -> str:
    return f"({state['desc'] or 'progress'} pid={state['pid']})"
