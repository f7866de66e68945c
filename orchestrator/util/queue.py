"""A queue for tasks and actors, with the interface of `queue.Queue`. It lives in an actor of its own."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Iterable
from typing import Any

from orchestrator import exceptions
from orchestrator.api.getting import get, kill
from orchestrator.api.remote import remote


class Empty(queue.Empty):
    """The queue had no item, or none came in time."""


class Full(queue.Full):
    """The queue had no room, or none became free in time."""


class Queue:
    """A first-in first-out queue that any number of processes may use: pass it to tasks and actors.

        tasks = Queue(maxsize=100)
        consumers = [consume.remote(tasks) for _ in range(4)]
        for item in items:
            tasks.put(item)         # waits while there are 100

    Args:
        maxsize: the most items in it; 0: no limit.
        actor_options: options of the actor that holds the items, like `{"num_cpus": 1, "name": "tasks"}`.

    Raises:
        TypeError, ValueError: an option of the actor's that is none, or a value it does not take.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor = _QueueActor.options(**(actor_options or {})).remote(maxsize)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return the number of items, which may be another one before it is looked at."""
        return int(get(self.actor.size.remote()))

    def qsize(self) -> int:
        """Return the number of items."""
        return self.size()

    def empty(self) -> bool:
        """Tell whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Tell whether there is no room."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item; wait for room, at most `timeout` seconds. A reference is replaced by its value.

        Raises:
            Full: there was no room.
            ValueError: `timeout` is negative.
        """
        if not get(self.actor.put.remote(item, _patience(block, timeout))):
            raise Full

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Do as `put`, in a coroutine."""
        if not await _answer(self.actor.put.remote(item, _patience(block, timeout))):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item; wait for one, at most `timeout` seconds.

        Raises:
            Empty: there was none.
            ValueError: `timeout` is negative.
        """
        return _first(get(self.actor.get.remote(_patience(block, timeout))))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """Do as `get`, in a coroutine."""
        return _first(await _answer(self.actor.get.remote(_patience(block, timeout))))

    def put_nowait(self, item: Any) -> None:
        """Add an item if there is room.

        Raises:
            Full: there is none.
        """
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all of several items, or none.

        Raises:
            Full: there is no room for all.
            TypeError: `items` is not iterable.
        """
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be iterable, not {type(items).__name__}")
        batch = list(items)
        room = get(self.actor.put_batch.remote(batch))
        if room is not None:
            raise Full(f"no room for {len(batch)} items: {room} would fit, of {self.maxsize}")

    def get_nowait(self) -> Any:
        """Take the first item if there is one.

        Raises:
            Empty: there is none.
        """
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the first `num_items` items, or none.

        Raises:
            Empty: there are fewer.
            TypeError, ValueError: not an int, or a negative one.
        """
        if not isinstance(num_items, int):
            raise TypeError(f"num_items must be an int, not {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items must be >= 0, not {num_items}")
        found, items = get(self.actor.get_batch.remote(num_items))
        if not found:
            raise Empty(f"there are only {items} items, not {num_items}")
        return list(items)

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue; what is in it is lost.

        Args:
            force: kill the actor at once, rather than after the calls that were made before.
            grace_period_s: how long those may take.
        """
        if not force:
            try:
                get(self.actor.__ray_ready__.remote(), timeout=grace_period_s)
            except exceptions.OrchestratorError:
                pass
        kill(self.actor, no_restart=True)


def _patience(block: bool, timeout: float | None) -> float | None:
    """How many seconds to wait: None is for ever, 0 not at all."""
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be >= 0, not {timeout}")
    return timeout


def _answer(ref: Any) -> Awaitable[Any]:
    return ref  # type: ignore[no-any-return]


def _first(answer: tuple[Any, ...]) -> Any:
    if not answer:
        raise Empty
    return answer[0]


@remote
class _QueueActor:
    """Holds the items. Its methods answer whether they could: the caller is the one who raises."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    def size(self) -> int:
        return self._items.qsize()

    async def put(self, item: Any, patience: float | None) -> bool:
        try:
            if patience == 0:
                self._items.put_nowait(item)
            else:
                await asyncio.wait_for(self._items.put(item), patience)
        except (asyncio.QueueFull, asyncio.TimeoutError):
            return False
        return True

    async def get(self, patience: float | None) -> tuple[Any, ...]:
        try:
            if patience == 0:
                return (self._items.get_nowait(),)
            return (await asyncio.wait_for(self._items.get(), patience),)
        except (asyncio.QueueEmpty, asyncio.TimeoutError):
            return ()

    def put_batch(self, items: list[Any]) -> int | None:
        room = self._maxsize - self._items.qsize() if self._maxsize > 0 else len(items)
        if len(items) > room:
            return room
        for item in items:
            self._items.put_nowait(item)
        return None

    def get_batch(self, count: int) -> tuple[bool, Any]:
        if count > self._items.qsize():
            return False, self._items.qsize()
        return True, [self._items.get_nowait() for _ in range(count)]


__all__ = ["Empty", "Full", "Queue"]
