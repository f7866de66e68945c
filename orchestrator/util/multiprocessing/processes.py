"""The processes of a pool, and which of them runs what.

A chunk of calls goes to a process that has none: nothing ever waits behind a call that may take long, while
another process is free or could be. Tiny calls want large chunks.

Chunks end in the thread for callbacks. A process that has died, or has run its `maxtasksperchild` chunks, is
replaced by a new one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator import exceptions
from orchestrator.api.actor_handle import ActorHandle
from orchestrator.api.getting import get, kill
from orchestrator.api.object_ref import ObjectRef
from orchestrator.api.remote import remote

#: What is called with a chunk's values, or its error.
Done = Callable[[list[Any] | None, BaseException | None], None]

_RUN: dict[str, Callable[[Any, list[Any]], list[Any]]] = {
    "map": lambda function, calls: [function(item) for item in calls],
    "starmap": lambda function, calls: [function(*items) for items in calls],
    "apply": lambda function, calls: [function(*args, **kwargs) for args, kwargs in calls],
}


class Chunk:
    """Calls of one function that run one after the other in one process."""

    __slots__ = ("calls", "done", "function", "style")

    def __init__(self, function: ObjectRef[Any], style: str, calls: list[Any], done: Done) -> None:
        self.function = function
        self.style = style
        self.calls = calls
        self.done = done


class _Process:
    """One process as the pool knows it."""

    __slots__ = ("actor", "busy", "chunks_left")

    def __init__(self, actor: ActorHandle, chunks_left: int | None) -> None:
        self.actor = actor
        self.busy = False
        #: how many chunks it may still be given; None: any number
        self.chunks_left = chunks_left


class Processes:
    """Gives chunks to processes, and keeps their number."""

    def __init__(
        self,
        count: int,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        chunks_max: int | None,
        options: dict[str, Any],
    ) -> None:
        self._start_actor = partial(
            _PoolProcess.options(**{"num_cpus": 0, **options}).remote,  # type: ignore[attr-defined]
            initializer,
            initargs,
        )
        self._chunks_max = chunks_max
        self._lock = threading.RLock()
        self._waiting: deque[Chunk] = deque()
        self._processes = [self._new_process() for _ in range(count)]
        self._closing = False
        self.terminated = False

    def _new_process(self) -> _Process:
        return _Process(self._start_actor(), self._chunks_max)

    def submit(self, chunk: Chunk) -> None:
        """Run a chunk as soon as a process is free."""
        with self._lock:
            if not self.terminated:
                if not self._processes:
                    # It was closed, and all was done; an iteration that goes on wants more.
                    self._processes.append(self._new_process())
                self._waiting.append(chunk)
                self._hand_out()
                return
        chunk.done(None, _terminated())

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        with self._lock:
            return not self._waiting and not any(process.busy for process in self._processes)

    def close(self) -> None:
        """End the processes when all that was submitted is done."""
        with self._lock:
            self._closing = True
            self._release_if_done()

    def terminate(self) -> None:
        """End the processes now. What runs fails with their death, what waits is cancelled."""
        with self._lock:
            self._closing = self.terminated = True
            waiting = list(self._waiting)
            self._waiting.clear()
            actors = [process.actor for process in self._processes]
            self._processes.clear()
        for actor in actors:
            try:
                kill(actor)
            except exceptions.SessionError:
                pass
        for chunk in waiting:
            chunk.done(None, _terminated())

    # -- lock held

    def _hand_out(self) -> None:
        """Give the chunks that wait to processes that have room."""
        free = [process for process in self._processes if not process.busy]
        while self._waiting and free:
            process = free[-1]
            chunk = self._waiting.popleft()
            try:
                ref = process.actor.run.remote(chunk.function, chunk.style, chunk.calls)
            except Exception as error:
                chunk.done(None, error)
                continue
            free.pop()
            process.busy = True
            if process.chunks_left is not None:
                process.chunks_left -= 1
            ref.add_done_callback(partial(self._over, process, chunk))

    def _release_if_done(self) -> None:
        if self._closing and self.idle:
            self._processes.clear()  # an actor without handles ends

    # -- in the thread for callbacks

    def _over(self, process: _Process, chunk: Chunk, ref: ObjectRef[list[Any]]) -> None:
        values: list[Any] | None = None
        error: BaseException | None = None
        try:
            values = get(ref)
        except BaseException as reason:
            error = reason
        with self._lock:
            process.busy = False
            ended = process.chunks_left == 0 or isinstance(error, exceptions.ActorDiedError)
            if ended and process in self._processes:
                self._processes.remove(process)
                if self._waiting or not self._closing:
                    self._processes.append(self._new_process())
            self._hand_out()
        try:
            chunk.done(values, error)
        finally:
            with self._lock:
                self._release_if_done()


def _terminated() -> exceptions.TaskCancelledError:
    return exceptions.TaskCancelledError("the pool was terminated")


@remote
class _PoolProcess:
    """One process of a pool."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        if initializer is not None:
            initializer(*initargs)

    def run(self, function: Callable[..., Any], style: str, calls: list[Any]) -> list[Any]:
        return _RUN[style](function, calls)
