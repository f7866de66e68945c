"""`map`: a function over many arguments, tiny calls sent in batches.

A call costs some ten microseconds on its way; one that takes less than that is better sent together with
others. How many, is learned: a batch is to take BATCH_S. The first has one call; each answer tells what a
call costs, with packing and unpacking, and the next batches are as large as that allows, at most GROWTH times
the one before. Where the number of calls is known, batches become smaller towards the end, so that all
processes end together (guided self-scheduling, Polychronopoulos and Kuck 1987).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from time import perf_counter
from typing import Any, TypeVar

from orchestrator import exceptions
from orchestrator.api.completions import Completions
from orchestrator.api.getting import cancel, get
from orchestrator.api.remote_function import RemoteFunction
from orchestrator.api.session import ensure_runtime
from orchestrator.common import options as option_rules
from orchestrator.common.clock import monotonic
from orchestrator.common.options import TASK
from orchestrator.core.entry import Entry
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.values import dump_error, load_error, task_error

R = TypeVar("R")

#: What a batch is to take: a hundred times what sending it costs, and little enough to share the work evenly.
BATCH_S = 0.01
#: The most calls in a batch: bounds what is read ahead of an endless iterator.
BATCH_MAX = 1024
#: The most by which a batch may be larger than the one that taught its size.
GROWTH = 8
#: Batches for each CPU that are under way or wait to be taken.
BATCHES_PER_CPU = 4

#: What a batch answers: values, errors by place, and the seconds it took.
Answer = tuple[list[Any], dict[int, bytes], float]


def map(
    function: Callable[..., R] | RemoteFunction[..., R, Any],
    /,
    *iterables: Iterable[Any],
    ordered: bool = True,
    return_exceptions: bool = False,
    timeout: float | None = None,
    batch_size: int | None = None,
    max_in_flight: int | None = None,
    **options: Any,
) -> Iterator[R]:
    """Call a function with each item in parallel, and return an iterator over the results.

    Work begins at once and runs ahead of the iteration, as far as `max_in_flight` says, so the iterables may
    be endless. References among the items are replaced by their values. When the iterator is closed or an
    error ends it, what has not begun is cancelled.

        for square in orchestrator.map(lambda x: x * x, range(1_000_000)):
            ...

    Args:
        function: any picklable callable, or a remote function, whose options hold.
        iterables: where the arguments come from; the shortest ends it.
        ordered: results in the order of the items, rather than as they come.
        return_exceptions: yield what a call raised in its place, rather than raise it.
        timeout: seconds from now in which all results must have come.
        batch_size: calls in a batch; chosen by what calls cost unless given.
        max_in_flight: the most calls that are under way or whose results nobody has taken.
        options: options of the tasks, as `remote` takes them.

    Raises:
        TypeError: not callable, or nothing to iterate over.
        ValueError: a number is out of range, or an unknown option.
        GetTimeoutError: while iterating: the time is over.
        Exception: while iterating: what a call raised.
    """
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    for name, value in (("batch_size", batch_size), ("max_in_flight", max_in_flight)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be an int >= 1, not {value!r}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be >= 0 or None, not {timeout}")
    remote = _batched(function, options, stop_at_error=not return_exceptions)
    batches = _Batches(remote, iterables, ordered, batch_size, max_in_flight)
    try:
        batches.fill()
    except BaseException:
        batches.cancel()
        raise
    deadline = None if timeout is None else monotonic() + timeout
    return _results(batches, deadline, return_exceptions)


def _results(batches: _Batches, deadline: float | None, return_exceptions: bool) -> Iterator[Any]:
    try:
        while batches.under_way:
            values, errors = batches.next(None if deadline is None else max(0.0, deadline - monotonic()))
            # The room this batch has left is filled before its results are looked at.
            batches.fill()
            for place, value in enumerate(values):
                batches.calls -= 1
                if place not in errors:
                    yield value
                elif return_exceptions:
                    yield errors[place]
                else:
                    raise errors[place]
            batches.fill()
    finally:
        batches.cancel()


class _Batches:
    """Cuts the items into batches, submits them, and learns how large they should be."""

    def __init__(
        self,
        remote: RemoteFunction[..., Any, Any],
        iterables: tuple[Iterable[Any], ...],
        ordered: bool,
        batch_size: int | None,
        max_in_flight: int | None,
    ) -> None:
        self._remote = remote
        self._width = len(iterables)
        self._items = zip(*iterables, strict=False)
        lengths = [len(one) for one in iterables if isinstance(one, Sized)]
        #: how many items are left at most, where that is known
        self._left = min(lengths) if lengths else None
        self._cpus = max(1, int(ensure_runtime().info.get("num_cpus") or 1))
        self._fixed = batch_size is not None
        self._size = batch_size or 1
        self._calls_max = max_in_flight
        self._batches_max = BATCHES_PER_CPU * self._cpus
        self._completions: Completions[Answer] | None = None if ordered else Completions()
        #: what is under way, oldest first: the reference, its calls, and the seconds it took to pack them
        self._sent: dict[Entry, tuple[ObjectRef[Answer], int, float]] = {}
        #: calls that are under way or whose results nobody has taken
        self.calls = 0
        self._exhausted = False
        #: a call that was taken off the items and goes in a batch of its own
        self._alone: deque[tuple[Any, ...]] = deque()

    @property
    def under_way(self) -> bool:
        """Whether results are still to come."""
        return bool(self._sent)

    def fill(self) -> None:
        """Submit batches as long as there are items and room."""
        while len(self._sent) < self._batches_max and (size := self._next_size()) > 0:
            began = perf_counter()
            calls = self._cut(size)
            if not calls:
                return
            ref = self._remote.remote(self._width, *(argument for call in calls for argument in call))
            self._sent[ref._entry] = ref, len(calls), perf_counter() - began
            self.calls += len(calls)
            if self._completions is not None:
                self._completions.add(ref)

    def _next_size(self) -> int:
        size = self._size
        if not self._fixed and self._left is not None:
            size = min(size, max(1, self._left // (2 * self._cpus)))
        if self._calls_max is not None:
            size = min(size, self._calls_max - self.calls)
        return size

    def _cut(self, size: int) -> list[tuple[Any, ...]]:
        """Take the next calls off the items. One with a reference goes alone: if that fails, only it does."""
        calls: list[tuple[Any, ...]] = []
        if self._alone:
            calls.append(self._alone.popleft())
        elif not self._exhausted:
            for call in islice(self._items, size):
                if any(type(argument) is ObjectRef for argument in call):
                    (self._alone if calls else calls).append(call)
                    break
                calls.append(call)
            else:
                self._exhausted = len(calls) < size
        if self._left is not None:
            self._left -= len(calls)
        return calls

    def next(self, timeout: float | None) -> tuple[list[Any], dict[int, BaseException]]:
        """Return the values of the next batch, and its errors by place."""
        if self._completions is None:
            entry = next(iter(self._sent))
        else:
            entry = self._completions.next(timeout)._entry
        ref, count, packing_s = self._sent[entry]
        try:
            ref._runtime.wait_entry(entry, timeout, "")
            began = perf_counter()
            values, blobs, spent_s = get(ref)
        except Exception as error:
            if not ref.done():
                raise
            # The batch failed as a whole: its process died, or what it refers to could not be computed.
            values = [None] * count
            errors: dict[int, BaseException] = dict.fromkeys(range(count), error)
        else:
            errors = {place: load_error(blob) for place, blob in blobs.items()}
            if not self._fixed:
                self._learn(count, packing_s + spent_s + perf_counter() - began)
        del self._sent[entry]
        return values, errors

    def _learn(self, count: int, spent_s: float) -> None:
        self._size = max(1, min(int(BATCH_S * count / spent_s), GROWTH * count, BATCH_MAX))

    def cancel(self) -> None:
        """Let go of what is under way."""
        for ref, _, _ in self._sent.values():
            try:
                cancel(ref)
            except exceptions.SessionError:
                break
        self._sent.clear()


def _batched(function: Any, options: dict[str, Any], stop_at_error: bool) -> RemoteFunction[..., Any, Any]:
    """Make the remote function that runs a batch of calls."""
    if isinstance(function, RemoteFunction):
        if function._num_returns != 1:
            raise TypeError(f"map() needs one result for each call, and {function!r} gives others")
        options = option_rules.merge(TASK, function._options, options)
        function = function._function
    elif not callable(function):
        raise TypeError(f"map() takes a callable, not {type(function).__name__}")
    else:
        options = option_rules.merge(TASK, {}, options)
    if options.get("num_returns") not in (None, 1):
        raise ValueError("map() needs one result for each call: num_returns must be 1")
    name = str(options.get("name") or getattr(function, "__qualname__", None) or type(function).__name__)

    def run(width: int, *arguments: Any) -> Answer:
        began = perf_counter()
        values: list[Any] = []
        errors: dict[int, bytes] = {}
        each = iter(arguments)
        for call in zip(*[each] * width, strict=True):
            try:
                value = function(*call)
            except Exception as error:
                errors[len(values)] = dump_error(task_error(error, name))
                value = None
            values.append(value)
            if errors and stop_at_error:
                break
        return values, errors, perf_counter() - began

    return RemoteFunction(run, {**options, "name": name})
