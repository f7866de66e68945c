"""`Pool`: the interface of `multiprocessing.pool.Pool`, with actors for processes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakSet

from orchestrator.api.context import cluster_resources
from orchestrator.api.getting import put
from orchestrator.api.session import init, is_initialized
from orchestrator.api.signal import Signal
from orchestrator.util.multiprocessing.processes import Chunk, Processes
from orchestrator.util.multiprocessing.results import AsyncResult as AsyncResult
from orchestrator.util.multiprocessing.results import IMapIterator as IMapIterator

#: Chunks that `imap` is ahead of the iteration, for each process.
AHEAD = 4
#: Chunks for each process that `map` makes by itself, as in `multiprocessing`.
CHUNKS = 4


class Pool:
    """A pool of processes that run calls; takes the place of `multiprocessing.Pool`.

        with Pool(4) as pool:
            print(pool.map(square, range(10)))

    Functions need not be importable. A process that dies is replaced, and the calls it ran raise
    `ActorDiedError`. Processes hold no CPU unless `ray_remote_args` says so: as in `multiprocessing`, there
    may be more of them than CPUs.

    Args:
        processes: how many; as many as the session has CPUs unless given.
        initializer: called in each process when it starts.
        initargs: its arguments.
        maxtasksperchild: replace a process after so many chunks.
        context: has no effect, and a warning says so: the processes are the session's.
        ray_address: the session to join if there is none.
        ray_remote_args: options of the actors, like `{"num_cpus": 1}`.

    Raises:
        ValueError: a number is below 1, or an unknown option.
        TypeError: the initializer is not callable.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if context is not None:
            warnings.warn("context has no effect: the pool's processes are the session's", stacklevel=2)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {type(initializer).__name__}")
        for name, value in (("processes", processes), ("maxtasksperchild", maxtasksperchild)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be an int >= 1, not {value!r}")
        if not is_initialized():
            init(ray_address)
        if processes is None:
            processes = max(1, int(cluster_resources().get("CPU", 1)))
        self._signal = Signal()
        self._count = processes
        self._processes = Processes(
            processes, initializer, tuple(initargs or ()), maxtasksperchild, dict(ray_remote_args or {})
        )
        self._closed = False
        self._iterations: WeakSet[IMapIterator] = WeakSet()
        self._unfinished = _Count()

    # -- one call

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None
    ) -> Any:
        """Call `func(*args, **kwds)` in one of the processes and return what it returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Like `apply`, and return at once.

        Args:
            func: what to call.
            args: its positional arguments.
            kwds: its arguments by name.
            callback: called with the result, in a thread of this process.
            error_callback: called with the exception instead.
        """
        self._check_open()
        result = AsyncResult(1, lambda chunks: chunks[0][0], callback, error_callback)
        self._submit(put(func), "apply", [(tuple(args), dict(kwds or {}))], partial(result._chunk_done, 0))
        return result

    # -- many calls, all results together

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Return the list of `func` of each item."""
        return self.map_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Like `map`, and return at once; callbacks as of `apply_async`."""
        return self._map_async(func, "map", iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Return the list of `func(*item)` for each item."""
        return self.starmap_async(func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Like `starmap`, and return at once; callbacks as of `apply_async`."""
        return self._map_async(func, "starmap", iterable, chunksize, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., Any],
        style: str,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[Any]], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> AsyncResult:
        self._check_open()
        items = iterable if isinstance(iterable, list) else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (CHUNKS * self._count)))
        chunks = list(_chunks(items, chunksize))
        result = AsyncResult(
            len(chunks), lambda values: list(itertools.chain(*values)), callback, error_callback
        )
        if chunks:
            function = put(func)
            for place, calls in enumerate(chunks):
                self._submit(function, style, calls, partial(result._chunk_done, place))
        return result

    # -- many calls, results one by one

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Return an iterator over `func` of each item, in order. The items are read as results are taken."""
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """Like `imap`, with the results as they come."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> IMapIterator:
        self._check_open()
        function = put(func)
        iteration = IMapIterator(
            _chunks(iterable, chunksize),
            lambda calls, done: self._submit(function, "map", calls, done),
            AHEAD * self._count,
            ordered,
        )
        self._iterations.add(iteration)
        return iteration

    # -- the end

    def close(self) -> None:
        """Take no more calls; the processes end when all is done."""
        if not self._closed:
            self._closed = True
            self._processes.close()

    def terminate(self) -> None:
        """End the processes at once; results that have not come raise an error."""
        self._closed = True
        self._processes.terminate()

    def join(self) -> None:
        """Wait until all is done; what `imap` has not read of its items is read now.

        Raises:
            ValueError: neither `close` nor `terminate` was called.
        """
        if not self._closed:
            raise ValueError("the pool is still running: close() or terminate() it first")
        if not self._processes.terminated:
            for iteration in list(self._iterations):
                iteration.feed(None)
        self._unfinished.wait_for_none()

    def __enter__(self) -> Pool:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the pool is not running: it was closed or terminated")
        self._signal.check()

    def _submit(self, function: Any, style: str, calls: list[Any], done: Callable[..., None]) -> None:
        self._unfinished.add()

        def over(values: list[Any] | None, error: BaseException | None) -> None:
            try:
                done(values, error)
            finally:
                self._unfinished.remove()

        self._processes.submit(Chunk(function, style, calls, over))


class _Count:
    """How many chunks are not over."""

    def __init__(self) -> None:
        self._items: list[None] = []
        self._signal = Signal()

    def add(self) -> None:
        self._items.append(None)

    def remove(self) -> None:
        self._items.pop()
        if not self._items:
            self._signal.notify()

    def wait_for_none(self) -> None:
        self._signal.wait(lambda: not self._items)


def _chunks(iterable: Iterable[Any], size: int) -> Iterator[list[Any]]:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"chunksize must be an int >= 1, not {size!r}")
    items = iter(iterable)
    return iter(lambda: list(itertools.islice(items, size)), [])
