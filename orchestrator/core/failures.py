"""Failures that nobody asked about: shown when the last reference to them goes.

An error that completes a task is kept in a `Failure`, which all entries share that fail because of it: the
task's own, and those of tasks that needed its results. Whoever raises the error, or hands it to another
process, marks it as seen. One that goes unseen is reported, as a program that only submits would otherwise
never learn that nothing of it worked.

Thousands of tasks may fail for one reason. Of each function the first few different errors are shown, the
rest is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orchestrator import exceptions
from orchestrator.common import environ

#: The setting (see `environ`) that turns this off.
IGNORE = "IGNORE_UNHANDLED_ERRORS"

#: What somebody ought to hear of; not what the program itself brings about, as by cancelling or killing.
SHOWN = (
    exceptions.TaskError,
    exceptions.WorkerCrashedError,
    exceptions.TaskTimeoutError,
    exceptions.InfeasibleError,
    exceptions.RuntimeEnvSetupError,
    exceptions.ObjectLostError,
    exceptions.UnserializableException,
)

#: Errors of one function that are looked at to see whether they are new; later ones are only counted.
LOOKED_AT_MAX = 20
#: Errors of one function that are shown in full, and functions of which any are.
SHOWN_MAX = 3
FUNCTIONS_MAX = 20
#: How often what was only counted is summed up.
SUMMARY_S = 10.0

Unseen = deque[tuple[str, Any]]


class Failure:
    """The error of a task: an exception, or the bytes of one."""

    __slots__ = ("error", "function", "seen", "unseen")

    def __init__(self, error: Any, function: str, unseen: Unseen) -> None:
        self.error = error
        self.function = function
        self.unseen = unseen
        self.seen = False

    def __del__(self) -> None:
        # At any point of any thread: it can do no more than append.
        if not self.seen:
            self.unseen.append((self.function, self.error))


def see(value: Any) -> Any:
    """Return the error of an entry that has failed; from now on it is somebody's."""
    if type(value) is Failure:
        value.seen = True
        return value.error
    return value


class _Tally:
    """What is known of one function's failures."""

    __slots__ = ("counted", "kinds", "looked_at")

    def __init__(self) -> None:
        self.looked_at = 0
        self.kinds: set[str] = set()
        #: not shown since the last summary
        self.counted = 0


class UnseenFailures:
    """Collects and shows them, for one process."""

    def __init__(self, show: Callable[[str], None], rebuild: Callable[[Any], BaseException]) -> None:
        self.waiting: Unseen = deque()
        self._show = show
        self._rebuild = rebuild
        self._tallies: dict[str, _Tally] = {}
        self._ignore = environ.flag(IGNORE, False)
        self._summary_at_s = 0.0

    def failure(self, error: Any, function: str) -> Any:
        """Return what an entry should hold for this error: a Failure, if somebody ought to hear of it."""
        if type(error) is bytes or isinstance(error, SHOWN):
            return Failure(error, function, self.waiting)
        return error

    def report(self, now_s: float) -> None:
        """Show what has come since the last time."""
        waiting = self.waiting
        while waiting:
            try:
                function, error = waiting.popleft()
            except IndexError:
                return
            if not self._ignore:
                self._note(function, error)
        if now_s >= self._summary_at_s:
            self._summary_at_s = now_s + SUMMARY_S
            self.sum_up()

    def _note(self, function: str, error: Any) -> None:
        tally = self._tallies.get(function)
        if tally is None:
            tally = self._tallies[function] = _Tally()
        if tally.looked_at < LOOKED_AT_MAX:
            tally.looked_at += 1
            rebuilt = self._rebuild(error)
            if not isinstance(rebuilt, SHOWN):
                return
            kind = type(rebuilt).__name__
            if (
                kind not in tally.kinds
                and len(tally.kinds) < SHOWN_MAX
                and len(self._tallies) <= FUNCTIONS_MAX
            ):
                tally.kinds.add(kind)
                self._show(
                    f"{function} failed, and nobody has asked for its result "
                    f"(ORCHESTRATOR_{IGNORE}=1 hides this):\n{type(rebuilt).__name__}: {rebuilt}"
                )
                return
        tally.counted += 1

    def sum_up(self) -> None:
        """Say how many there were that were not shown."""
        for function, tally in self._tallies.items():
            if tally.counted:
                self._show(
                    f"{function} failed {tally.counted} times more, and nobody has asked for the results"
                )
                tally.counted = 0
