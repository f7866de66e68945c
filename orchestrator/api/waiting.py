"""`wait`: some of many references, those that are ready.

A loop that takes one of ten thousand references at a time passes the rest back each time. To look at all of
them again in each round would take milliseconds a round. So the rest of a long list is a `Rest`: a list that
knows that it was checked, and is told which of its references become ready. A round then costs a copy of the
list, some microseconds. A list that its owner changes is an ordinary one from then on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

from orchestrator import exceptions
from orchestrator.api.session import ensure_runtime
from orchestrator.common.clock import monotonic
from orchestrator.common.priority import PREFETCH
from orchestrator.core.arrivals import Arrivals
from orchestrator.core.entry import STORED, Entry
from orchestrator.core.generators import ObjectRefGenerator
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.runtime import Runtime, current

Ref = TypeVar("Ref")  # ObjectRef or ObjectRefGenerator; a list may hold both

#: A rest of fewer references is a plain list: looking at it again costs no more than watching it.
WATCH_MIN = 64


def wait(
    refs: list[Ref], *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[Ref], list[Ref]]:
    """Wait until `num_returns` of the references are ready; return (ready, rest), both in the given order.

    At most `num_returns` are returned as ready. One that failed counts as ready, and so does a
    generator that has an item or has ended.

    Args:
        refs: a list of different references or generators.
        num_returns: how many, from 1 to the length of the list.
        timeout: seconds to wait; 0 only looks.
        fetch_local: whether a value must be on this node. One that is elsewhere is brought here, and is ready
            when it has come. Without, it is ready as soon as it exists somewhere.

    Raises:
        TypeError: not a list of references.
        ValueError: one occurs twice, or a number is out of range.
    """
    if not isinstance(refs, list):
        raise exceptions.ReferenceTypeError(f"wait() takes a list of references, not {type(refs).__name__}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be >= 0, not {timeout}")
    if not refs:
        ensure_runtime()
        return [], []
    runtime = current()
    brings = fetch_local and runtime is not None and runtime.here != 0
    watch = refs.watch if type(refs) is Rest and not brings else None
    if watch is None or watch.runtime is not runtime:
        entries = _entries_of(refs)
        for ref in refs:
            if ref._runtime is not runtime:  # type: ignore[attr-defined]
                ref._runtime.check_alive()  # type: ignore[attr-defined]
    assert runtime is not None
    if not 1 <= num_returns <= len(refs):
        raise ValueError(f"num_returns must be between 1 and {len(refs)}, not {num_returns}")
    runtime.pump.poll()
    if watch is not None and watch.runtime is runtime:
        refs.watch = None  # type: ignore[attr-defined]
        places = watch.take(num_returns, timeout)
    else:
        watch = None
        if brings:
            places = _first_here(runtime, refs, entries, num_returns, timeout)
        else:
            places = _first_ready(entries, num_returns)
        if len(places) < num_returns and not brings:
            runtime.wait_many(entries, num_returns, timeout)
            places = _first_ready(entries, num_returns)
        if (
            not brings
            and len(refs) - len(places) >= WATCH_MIN
            and all(type(ref) is ObjectRef for ref in refs)
        ):
            _remove(entries, places)
            watch = _Watch(runtime, entries)
    ready = [refs[place] for place in places]
    rest = refs[:] if watch is None else Rest(refs, watch)
    _remove(rest, places)
    return ready, rest


_WAITABLE = frozenset({ObjectRef, ObjectRefGenerator})


def _entries_of(refs: list[Ref]) -> list[Entry]:
    if not _WAITABLE.issuperset(map(type, refs)):
        wrong = next(ref for ref in refs if type(ref) not in _WAITABLE)
        raise exceptions.ReferenceTypeError(
            f"wait() takes references; the list has an item of type {type(wrong).__name__}"
        )
    entries = [ref._entry for ref in refs]  # type: ignore[attr-defined]
    if len(set(entries)) != len(entries):
        raise ValueError("wait() takes each reference once")
    return entries


def _first_ready(entries: list[Entry], count: int) -> list[int]:
    """Return the places of the first `count` entries that are done."""
    places = []
    for place, entry in enumerate(entries):
        if entry.state:
            places.append(place)
            if len(places) == count:
                break
    return places


def _first_here(
    runtime: Runtime, refs: list[Ref], entries: list[Entry], count: int, timeout: float | None
) -> list[int]:
    """Return the places of the first `count` that are done and on this node; those elsewhere are brought."""
    deadline = None if timeout is None else monotonic() + timeout
    is_missing = runtime.references.is_missing

    def is_away(place: int) -> bool:
        entry = entries[place]
        return entry.state == STORED and type(refs[place]) is ObjectRef and is_missing(entry)

    while True:
        places = _first_ready(entries, count)
        away = [entries[place] for place in places if is_away(place)]
        if not away and len(places) == count:
            return places
        runtime.lineage.recover_missing(away, PREFETCH)
        left_s = None if deadline is None else deadline - monotonic()
        if left_s is not None and left_s <= 0:
            done = _first_ready(entries, len(entries))
            return [place for place in done if not is_away(place)][:count]
        runtime.wait_many(entries, count, left_s)


def _remove(items: list[Any], places: list[int]) -> None:
    """Delete the items at these places, which are in order."""
    if len(places) == 1:
        list.__delitem__(items, places[0])
    elif places:
        gone = set(places)
        list.__setitem__(items, slice(None), [item for place, item in enumerate(items) if place not in gone])


class _Watch:
    """Which of the references of one list are ready, learned as they become so."""

    def __init__(self, runtime: Runtime, entries: list[Entry]) -> None:
        self.runtime = runtime
        self._arrivals = Arrivals()
        #: numbers of the references that are left, in their order
        self._numbers = list(range(len(entries)))
        #: the entries whose readiness is not known, with their numbers
        self._pending: dict[Entry, int] = {}
        #: numbers of those that are ready, the first one first
        self._ready: list[int] = []
        for number, entry in enumerate(entries):
            if entry.state:
                self._ready.append(number)
            else:
                self._pending[entry] = number
                entry.when_done(self._arrivals)
                if type(entry.ident) is bytes:
                    runtime.references.watch(entry, PREFETCH)

    def take(self, count: int, timeout: float | None) -> list[int]:
        """Wait until `count` are ready; return the places of the first ones, which are then left no more."""
        deadline = None if timeout is None else monotonic() + timeout
        self._collect()
        while len(self._ready) < count and self.runtime.pump.wait(self._arrivals, deadline):
            self._collect()
        taken = [heappop(self._ready) for _ in range(min(count, len(self._ready)))]
        places = [bisect_left(self._numbers, number) for number in taken]
        _remove(self._numbers, places)
        return places

    def _collect(self) -> None:
        while (entry := self._arrivals.take()) is not None:
            heappush(self._ready, self._pending.pop(entry))

    def __del__(self) -> None:
        # Entries that are pending would keep those that are done alive, through the arrivals.
        while self._pending:
            entry, _ = self._pending.popitem()
            entry.forget(self._arrivals)


def _changing(name: str) -> Callable[..., Any]:
    change = getattr(list, name)

    def changing(self: Rest[Any], *args: Any, **kwargs: Any) -> Any:
        self.watch = None
        return change(self, *args, **kwargs)

    changing.__name__ = name
    return changing


class Rest(list[Ref], Generic[Ref]):
    """A list of references as `wait` returned it."""

    __slots__ = ("watch",)

    def __init__(self, refs: list[Ref], watch: _Watch) -> None:
        super().__init__(refs)
        #: what is known of these very references; None once the list was changed or waited for
        self.watch: _Watch | None = watch

    for _name in (
        "__delitem__",
        "__iadd__",
        "__imul__",
        "__setitem__",
        "append",
        "clear",
        "extend",
        "insert",
        "pop",
        "remove",
        "reverse",
        "sort",
    ):
        locals()[_name] = _changing(_name)
    del _name

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return (list, (list(self),))
