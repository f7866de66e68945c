"""Locks, semaphores, events and barriers for tasks and actors. Each lives in an actor of its own.

They can be passed to tasks and actors like any value. Who waits gives its CPU back meanwhile, like anyone who
waits for a result. With `name=`, every process that makes one of that name
in the session means the same.

What a process holds when it dies stays taken: nobody can know whether its work was done. `release()` may be
called by another process.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from orchestrator.api.actor_handle import ActorHandle
from orchestrator.api.getting import get
from orchestrator.api.remote import remote


def _actor(cls: Any, name: str | None, *args: Any) -> ActorHandle:
    options: dict[str, Any] = {"num_cpus": 0}
    if name is not None:
        options.update(name=f"{cls.__name__}:{name}", get_if_exists=True)
    return cls.options(**options).remote(*args)  # type: ignore[no-any-return]


class Semaphore:
    """Lets a number of holders in at a time: `with Semaphore(3): ...`

    Args:
        value: how many.
        name: what it is called in the session; None: only who is given it can use it.

    Raises:
        ValueError: `value` is below 1.
    """

    def __init__(self, value: int = 1, *, name: str | None = None) -> None:
        if value < 1:
            raise ValueError(f"value must be >= 1, not {value}")
        self._actor = _actor(_Semaphore, name, value)

    def acquire(self, timeout: float | None = None) -> bool:
        """Take a place; wait for it, at most `timeout` seconds. False if none became free."""
        return bool(get(self._actor.acquire.remote(timeout)))

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """Do as `acquire`, in a coroutine."""
        return bool(await self._actor.acquire.remote(timeout))

    def release(self) -> None:
        """Give a place back.

        Raises:
            ValueError: none is taken.
        """
        get(self._actor.release.remote())

    def locked(self) -> bool:
        """Tell whether no place is free."""
        return bool(get(self._actor.locked.remote()))

    def __enter__(self) -> Semaphore:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Semaphore:
        await self.acquire_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._actor.release.remote()


class Lock(Semaphore):
    """Lets one holder in at a time: `with Lock(name="results"): ...`

    Args:
        name: what it is called in the session; None: only who is given it can use it.
    """

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(1, name=None if name is None else f"lock:{name}")


class Event:
    """Something that happens once, and that others wait for.

    Args:
        name: what it is called in the session; None: only who is given it can use it.
    """

    def __init__(self, *, name: str | None = None) -> None:
        self._actor = _actor(_Event, name)

    def set(self) -> None:
        """Let everyone go on who waits or will."""
        get(self._actor.set.remote())

    def clear(self) -> None:
        """Have everyone wait again who will."""
        get(self._actor.clear.remote())

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return bool(get(self._actor.is_set.remote()))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, at most `timeout` seconds. False if it has not."""
        return bool(get(self._actor.wait.remote(timeout)))

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Do as `wait`, in a coroutine."""
        return bool(await self._actor.wait.remote(timeout))


class Barrier:
    """Holds everyone up until a number of them have come; then it can be used again.

    Args:
        parties: how many.
        name: what it is called in the session; None: only who is given it can use it.

    Raises:
        ValueError: `parties` is below 1.
    """

    def __init__(self, parties: int, *, name: str | None = None) -> None:
        if parties < 1:
            raise ValueError(f"parties must be >= 1, not {parties}")
        self.parties = parties
        self._actor = _actor(_Barrier, name, parties)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; return this one's place in the order of arrival, from 0.

        Raises:
            TimeoutError: they did not come in `timeout` seconds. The others go on waiting.
        """
        place = get(self._actor.wait.remote(timeout))
        if place is None:
            raise TimeoutError(f"not all of {self.parties} came within {timeout:g} s")
        return int(place)


@remote
class _Semaphore:
    def __init__(self, value: int) -> None:
        self._value = value
        self._taken = 0
        self._semaphore = asyncio.Semaphore(value)

    async def acquire(self, timeout: float | None) -> bool:
        try:
            await asyncio.wait_for(self._semaphore.acquire(), timeout)
        except asyncio.TimeoutError:
            return False
        self._taken += 1
        return True

    def release(self) -> None:
        if not self._taken:
            raise ValueError("release() without acquire(): no place is taken")
        self._taken -= 1
        self._semaphore.release()

    def locked(self) -> bool:
        return self._semaphore.locked()


@remote
class _Event:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, timeout: float | None) -> bool:
        try:
            return await asyncio.wait_for(self._event.wait(), timeout)
        except asyncio.TimeoutError:
            return False


@remote
class _Barrier:
    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self, timeout: float | None) -> int | None:
        place = len(self._waiting)
        if place == self._parties - 1:
            waiting, self._waiting = self._waiting, []
            for gate in waiting:
                if not gate.done():
                    gate.set_result(None)
            return place
        gate = asyncio.get_running_loop().create_future()
        self._waiting.append(gate)
        try:
            await asyncio.wait_for(gate, timeout)
        except asyncio.TimeoutError:
            self._waiting.remove(gate)
            return None
        return place
