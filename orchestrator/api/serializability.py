"""Which parts of a value cannot be pickled, as objects to look at."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from orchestrator.core.current import current
from orchestrator.objects.plasma_adapter import parts, pickling_error

#: Parts that are looked at before the search is given up, which leaves what was found.
_LOOKS_MAX = 4000


class FailureTuple:
    """A part that cannot be pickled: the object, its name and where it sits, and what it is a part of."""

    __slots__ = ("name", "obj", "parent")

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailureTuple(obj={self.obj!r}, name={self.name!r}, parent={self.parent!r})"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Find out whether a value can be sent to other processes, and if not, which parts of it cannot.

        ok, failures = inspect_serializability(my_function)

    What was found is printed as a tree.

    Args:
        base_obj: the value: a function, a class, anything.
        name: what to call it; its own name or type unless given.
        depth: how many levels of parts to enter. A part at the last level is reported as a whole.
        print_file: where to print; stdout unless given.

    Raises:
        ValueError: `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be >= 1, not {depth}")
    called = name or getattr(base_obj, "__qualname__", None) or type(base_obj).__name__
    search = _Search(print_file or sys.stdout)
    runtime = current()
    if runtime is None:
        search.look(base_obj, called, None, depth, 0)
    else:
        # References inside the value are only looked at: without this they would be kept for good.
        gathering = runtime.references.gathering
        outer, gathering.met = gathering.met, []
        try:
            search.look(base_obj, called, None, depth, 0)
        finally:
            gathering.met = outer
    return not search.failures, search.failures


class _Search:
    def __init__(self, stream: TextIO) -> None:
        self.failures: set[FailureTuple] = set()
        self._stream = stream
        self._seen: list[Any] = []  # kept alive, so that an id stays that object's
        self._ids: set[int] = set()

    def look(self, value: Any, name: str, parent: Any, depth: int, level: int) -> bool:
        """Look at a value and, if it cannot be pickled, at its parts. True if it can be."""
        error = pickling_error(value)
        indent = "    " * level
        if error is None:
            if level == 0:
                print(f"{name}: can be serialized", file=self._stream)
            return True
        print(f"{indent}{name}: {type(value).__name__} cannot be serialized: {error}", file=self._stream)
        blamed = False
        if depth > 0:
            for place, part in parts(value):
                if id(part) in self._ids or len(self._ids) > _LOOKS_MAX:
                    continue
                self._ids.add(id(part))
                self._seen.append(part)
                if not self.look(part, _name_of(place, part), value, depth - 1, level + 1):
                    blamed = True
        if not blamed:
            self.failures.add(FailureTuple(value, name, parent))
        return False


def _name_of(place: str, part: Any) -> str:
    """Name a part after the variable it is in, as its place tells it: ``closure variable 'lock' of f``."""
    return place.strip(" →.") or type(part).__name__
