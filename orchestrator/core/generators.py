"""Generators: a task that yields, and the references to its items as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakValueDictionary

from orchestrator import exceptions
from orchestrator.common.ids import TaskID
from orchestrator.core.entry import ERROR, PENDING, PLAIN, STORED, Entry
from orchestrator.core.messages import CONSUMED
from orchestrator.core.object_ref import ObjectRef

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime
    from orchestrator.core.task import Task

T = TypeVar("T", covariant=True)

#: What a call of a generator function, sync or async, returns.
GENERATORS = frozenset({GeneratorType, AsyncGeneratorType})


class Stream:
    """The submitter's end of a generator's task: items that have arrived and were not taken yet."""

    __slots__ = (
        "arrived",
        "completed",
        "count",
        "is_awaited",
        "is_closed",
        "items",
        "lost",
        "next_ready",
        "stored",
        "taken",
    )

    def __init__(self, completed: Entry) -> None:
        self.items: deque[Entry] = deque()
        #: items in the store that somebody here still refers to, by index
        self.stored: WeakValueDictionary[int, Entry] = WeakValueDictionary()
        #: items that were lost and are made again by this run, by index
        self.lost: dict[int, Entry] = {}
        #: items accepted so far; the next one must have this index
        self.arrived = 0
        self.taken = 0
        #: the whole number of items, once known
        self.count: int | None = None
        #: completed when the generator has ended; holds an error if it was not the generator that raised that
        self.completed = completed
        #: completed when an item can be taken, or none will come any more
        self.next_ready = Entry(0)
        #: nobody takes items any more
        self.is_closed = False
        #: somebody may wait for the end, whether or not anybody takes the items
        self.is_awaited = False

    def wants(self, index: int) -> bool:
        """Tell whether this is the next item, and anybody wants it."""
        return index == self.arrived and not self.is_closed and not self.completed.state

    def accept(self, entry: Entry) -> None:
        """Take the next item, and wake whoever waits for it."""
        self.items.append(entry)
        self.arrived += 1
        self.announce()

    def announce(self) -> None:
        """Tell whoever waits that there is something to take, or nothing any more."""
        self.next_ready.complete(PLAIN, None)

    def finish(self, error: Any, count: int | None, is_raised: bool = False) -> None:
        """End the stream. A failure becomes one more item, which raises; `is_raised` if user code has."""
        if self.completed.state:
            return
        if error is not None:
            self.items.append(Entry(self.completed.ident, ERROR, error))
        if error is not None and not is_raised:
            self.completed.complete(ERROR, error)
        else:
            self.completed.complete(PLAIN, None)
        self.count = count
        self.announce()
        while self.lost:
            index, entry = self.lost.popitem()
            if count is not None and index >= count:
                text = f"item {index} is lost, and the generator produced only {count} when it was run again"
                error = exceptions.ObjectReconstructionFailedError(text)
            # Without an error this run had passed the item before it was lost: who asks runs it once more.
            entry.complete(STORED if error is None else ERROR, error)

    def take(self) -> Entry | None:
        """Return the next item, or None if none is here; then `next_ready` tells when to look again."""
        if not self.items:
            return None
        entry = self.items.popleft()
        self.taken += 1
        if not self.items and not self.completed.state:
            self.next_ready = Entry(0)
            # One may have arrived between the two lines.
            if self.items or self.completed.state:
                self.announce()
        return entry

    def close(self) -> None:
        """Drop what has arrived and what will."""
        self.is_closed = True
        self.items.clear()


def items_of(value: Any) -> Iterator[Any]:
    """Return what a generator yields, one after the other; an async one is given a loop to run on.

    Raises:
        ValueError: it is no generator.
    """
    if hasattr(value, "__next__"):
        return value  # type: ignore[no-any-return]
    if hasattr(value, "__anext__"):
        return _drive(value)
    raise ValueError(f'num_returns="streaming" needs a generator, not {type(value).__name__}')


def _drive(items: Any) -> Iterator[Any]:
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(items.__anext__())
            except StopAsyncIteration:
                return
    finally:
        try:
            loop.run_until_complete(items.aclose())
        finally:
            loop.close()


def only_item(values: Any) -> Any:
    """Return what a generator yields that is the one result of a call.

    Raises:
        ValueError: it yields nothing, or more.
    """
    values = items_of(values)
    nothing = object()
    first = next(values, nothing)
    if first is nothing or next(values, nothing) is not nothing:
        number = "no item" if first is nothing else "more than one item"
        values.close()
        raise ValueError(
            f"num_returns=1, but the generator yielded {number}; a generator function streams its items "
            'unless it is given num_returns, or with num_returns="streaming"'
        )
    return first


async def collected(items: Any, count: int | None) -> Iterator[Any]:
    """Return a generator of what an async one yields, and then raises: its items, and one beyond `count`."""
    found: list[Any] = []
    error: Exception | None = None
    try:
        async for item in items:
            found.append(item)
            if count is not None and len(found) > count:
                await items.aclose()
                break
    except Exception as reason:
        error = reason

    def replay() -> Iterator[Any]:
        yield from found
        if error is not None:
            raise error

    return replay()


class DynamicObjectRefGenerator(Generic[T]):
    """The references to what a task with `num_returns="dynamic"` has yielded, once it has ended."""

    def __init__(self, refs: list[ObjectRef[T]]) -> None:
        self._refs = refs

    @classmethod
    def of(cls, items: Iterator[Any], runtime: Runtime) -> DynamicObjectRefGenerator[Any]:
        """Store each item as it comes."""
        return cls([ObjectRef(runtime.put(item), runtime) for item in items])

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> ObjectRef[T]:
        return self._refs[index]

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self)} items)"


class ObjectRefGenerator(Generic[T]):
    """The items of a remote generator, as references, in order; ends where the generator ended.

    Iterate with `for` or `async for`. An exception raised by the generator is the last reference.
    Not for several threads at once, and not picklable.
    """

    __slots__ = ("__weakref__", "_runtime", "_stream", "_task")

    def __init__(self, runtime: Runtime, task: Task, stream: Stream) -> None:
        self._runtime = runtime
        self._task = task
        self._stream = stream

    @property
    def _entry(self) -> Entry:
        """What `wait` waits for: the next item."""
        return self._stream.next_ready

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return self

    def __next__(self) -> ObjectRef[T]:
        return self._next(None)

    def next(self, timeout: float | None = None) -> ObjectRef[T]:
        """Return the next reference; wait at most `timeout` seconds for it.

        Raises:
            StopIteration: the generator has ended.
            GetTimeoutError: no item came in time.
        """
        return self._next(timeout)

    def _next(self, timeout: float | None) -> ObjectRef[T]:
        ref = self._take()
        while ref is None:
            if self.is_finished():
                raise StopIteration
            self._runtime.wait_entry(self._stream.next_ready, timeout, "the next item of a generator")
            ref = self._take()
        return ref

    def _take(self) -> ObjectRef[T] | None:
        entry = self._stream.take()
        if entry is None:
            return None
        task = self._task
        if task.template.backpressure and self._stream.completed.state == PENDING:
            address = self._runtime.address_of(task)
            if address:
                self._runtime.send_control(address, (CONSUMED, task.seq, self._stream.taken))
        return ObjectRef(entry, self._runtime)

    def __aiter__(self) -> AsyncIterator[ObjectRef[T]]:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        ref = self._take()
        while ref is None:
            if self.is_finished():
                raise StopAsyncIteration
            await ObjectRef(self._stream.next_ready, self._runtime)
            ref = self._take()
        return ref

    def completed(self) -> ObjectRef[Any]:
        """Return a reference that is ready when the generator has ended; its value is None.

        What the generator raises is its last item. Only a failure that is not its own doing, such as the
        death of its worker, is an error of this reference too. A generator whose end was asked for is not
        cancelled when it is dropped; one with back-pressure is, as nobody would make room for its items.
        """
        self._stream.is_awaited = True
        return ObjectRef(self._stream.completed, self._runtime)

    def next_ready(self) -> bool:
        """Tell whether `next` would return a reference at once; after the last one it is False for good."""
        stream = self._stream
        if not stream.next_ready.state:
            self._runtime.check_alive()
            self._runtime.pump.look(stream.next_ready)
        return bool(stream.items)

    def is_finished(self) -> bool:
        """Tell whether all items have been taken and none will come."""
        stream = self._stream
        return bool(stream.completed.state) and not stream.items

    def close(self) -> None:
        """Cancel the generator's task and drop the items nobody has taken."""
        self._stream.close()
        if self._stream.completed.state == PENDING:
            self._runtime.cancel_task(self._task, force=False, recursive=True)
        self._stream.close()

    def send(self, value: Any) -> Any:
        """Not possible: the generator runs elsewhere, and ahead."""
        raise NotImplementedError("a remote generator cannot be sent values: it runs ahead of its reader")

    def throw(self, error: BaseException) -> Any:
        """Not possible: the generator runs elsewhere, and ahead. `close()` stops it."""
        raise NotImplementedError("nothing can be thrown into a remote generator; close() stops it")

    async def aclose(self) -> None:
        """Like `close`."""
        self.close()

    def task_id(self) -> TaskID:
        """Return the id of the generator's task."""
        return TaskID(self._runtime.id_of(self._stream.completed))

    def __del__(self) -> None:
        try:
            stream = self._stream
            if stream.completed.state == PENDING and not stream.is_closed:
                stream.close()
                if not stream.is_awaited or self._task.template.backpressure:
                    self._runtime.abandoned.append(self._task)
        except Exception:
            pass  # made in part, or the interpreter ends: there is nobody to tell

    def __reduce__(self) -> Any:
        raise TypeError("an ObjectRefGenerator cannot be pickled; pass the references it yields instead")

    def __repr__(self) -> str:
        state = "finished" if self.is_finished() else f"{self._stream.taken} items taken"
        return f"ObjectRefGenerator({state})"
