"""What a pool's calls return: results to ask for, and results to iterate over."""

from __future__ import annotations

import builtins
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.api.session import ensure_runtime
from orchestrator.api.signal import Signal


class TimeoutError(multiprocessing.TimeoutError, builtins.TimeoutError):
    """A result did not come in time. Both what `multiprocessing` raises and Python's own `TimeoutError`."""


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`."""

    def __init__(
        self,
        chunks: int,
        finish: Callable[[list[list[Any]]], Any],
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> None:
        self._runtime = ensure_runtime()
        self._signal = Signal()
        self._chunks: list[list[Any]] = [[] for _ in range(chunks)]
        self._left = chunks
        self._finish = finish
        self._callback = callback
        self._error_callback = error_callback
        self._ready = False
        self._value: Any = None
        self._error: BaseException | None = None
        if not chunks:
            self._end(None)

    def get(self, timeout: float | None = None) -> Any:
        """Return the value; wait at most `timeout` seconds for it.

        Raises:
            TimeoutError: it did not come in time.
            Exception: what the call raised.
        """
        self.wait(timeout)
        if not self._ready:
            raise TimeoutError(f"no result after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, at most `timeout` seconds."""
        self._signal.wait(self.ready, timeout)

    def ready(self) -> bool:
        """Tell whether the call is over."""
        return self._ready

    def successful(self) -> bool:
        """Tell whether the call ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self._ready:
            raise ValueError(f"{self!r} is not ready")
        return self._error is None

    # -- in the thread for callbacks

    def _chunk_done(self, place: int, values: list[Any] | None, error: BaseException | None) -> None:
        if self._ready:
            return
        if error is not None:
            self._end(error)
            return
        assert values is not None
        self._chunks[place] = values
        self._left -= 1
        if not self._left:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        if error is None:
            self._value = self._finish(self._chunks)
        self._chunks = []
        self._ready = True
        self._signal.notify()
        call: Callable[[Any], Any] | None = self._callback if error is None else self._error_callback
        if call is not None:
            self._runtime.call_user(call, self._value if error is None else error)
        self._callback = self._error_callback = None


class IMapIterator:
    """The results of `imap` or `imap_unordered`, while they come.

    Chunks are submitted `ahead` of what was taken, so the items may be endless. `next(timeout)` is the
    iteration's step with a time limit.
    """

    def __init__(
        self,
        chunks: Iterator[list[Any]],
        submit: Callable[[list[Any], Callable[..., None]], None],
        ahead: int,
        ordered: bool,
    ) -> None:
        self._signal = Signal()
        self._items = chunks
        self._submit = submit
        self._ahead = ahead
        self._ordered = ordered
        self._submitted = 0
        self._taken = 0
        #: outcomes of chunks that are over and not taken, by number in the order in which they ended
        self._over: dict[int, tuple[list[Any] | None, BaseException | None]] = {}
        self._values: deque[Any] = deque()
        self._exhausted = False
        self.feed(ahead)

    def feed(self, ahead: int | None = None) -> None:
        """Submit chunks, `ahead` of those taken; None: all that are left."""
        while not self._exhausted and (ahead is None or self._submitted - self._taken < ahead):
            try:
                calls = next(self._items)
            except StopIteration:
                self._exhausted = True
                return
            number = self._submitted
            self._submitted += 1

            def done(values: list[Any] | None, error: BaseException | None, number: int = number) -> None:
                self._over[number] = values, error
                self._signal.notify()

            self._submit(calls, done)

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result; wait at most `timeout` seconds for it.

        Raises:
            StopIteration: there are no more.
            TimeoutError: it did not come in time.
            Exception: what a call raised; the results of its chunk are lost, the iteration goes on.
        """
        while not self._values:
            self.feed(self._ahead)
            if self._taken == self._submitted:
                raise StopIteration
            if not self._signal.wait(self._has_next, timeout):
                raise TimeoutError(f"no result after {timeout:g} s")
            values, error = self._over.pop(self._taken if self._ordered else next(iter(self._over)))
            self._taken += 1
            if error is not None:
                raise error
            self._values.extend(values or ())
        return self._values.popleft()

    def _has_next(self) -> bool:
        return self._taken in self._over if self._ordered else bool(self._over)
