"""The threads of actors whose calls overlap: an event loop on one, or pools of several.

They are daemons: a call that never ends does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from orchestrator.core.async_calls import AsyncCalls
from orchestrator.core.threaded_calls import ThreadedCalls

if TYPE_CHECKING:
    from orchestrator.inline.executor import InlineExecutor

#: How long the end of a session waits for a thread that runs nothing to end.
END_TIMEOUT_S = 2.0


class InlineLoop(AsyncCalls):
    """The event loop of an async actor, on a thread of its own."""

    def __init__(self, executor: InlineExecutor, on_end: Callable[[], None]) -> None:
        assert executor.actor is not None
        super().__init__(executor.actor)
        self._loop.close()
        self._loop = asyncio.new_event_loop()  # type: ignore[assignment]
        self._on_end = on_end
        self._is_killed = False
        name = f"orchestrator-{executor.actor.class_name}"
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)
        executor.actor.loop = self

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def run(self) -> None:
        """Serve calls until the actor is to end."""
        self._runtime.enter(self._executor)  # type: ignore[attr-defined]
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            if pending:
                loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        if not self._is_killed:
            self._on_end()

    def deliver(self, sender: int, payload: bytes) -> None:
        """Begin a call, in turn; from any thread."""
        self._loop.call_soon_threadsafe(self._arrive, sender, pickle.loads(payload))

    def _arrive(self, sender: int, message: tuple[Any, ...]) -> None:
        options = (message[7] if len(message) > 3 else None) or {}
        group = self._groups.get(options.get("group", ""), self._default)
        if group.free > 0 and not group.backlog and not self._executor.quitting:
            self._start(group, sender, message)
        else:
            group.backlog.append((sender, message))

    def stop_when_idle(self) -> None:
        """End once what was called is done."""
        self.wake()

    def kill(self) -> None:
        """End now: coroutines are cancelled."""
        self._is_killed = True
        try:
            self._loop.call_soon_threadsafe(self._loop.stop)
        except RuntimeError:
            return  # it has ended
        if self._thread is not threading.current_thread():
            self._thread.join(END_TIMEOUT_S)


class _Job:
    """A call in a pool."""

    __slots__ = ("_taken", "call")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self._taken = threading.Lock()

    def take(self) -> bool:
        """Return True to the first who asks: a thread that runs it, or who cancels it."""
        return self._taken.acquire(blocking=False)

    cancel = take


class _Pool:
    """So many daemon threads, started as they are needed."""

    def __init__(
        self, name: str, size: int, enter: Callable[[], Any], after_call: Callable[[], None]
    ) -> None:
        self._name = name
        self._size = size
        self._enter = enter
        self._after_call = after_call
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def submit(self, function: Callable[..., Any], *args: Any) -> _Job:
        """Have a thread call the function."""
        job = _Job(lambda: function(*args))
        if len(self.threads) < self._size:
            name = f"{self._name}_{len(self.threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self.threads.append(thread)
            thread.start()
        self._queue.put(job)
        return job

    def _run(self) -> None:
        self._enter()
        while (job := self._queue.get()) is not None:
            if job.take():
                job.call()
            del job
            self._after_call()

    def end(self) -> None:
        """Let the threads end when they are done."""
        for _ in self.threads:
            self._queue.put(None)


class InlinePools(ThreadedCalls):
    """The threads of a threaded actor: as many for each concurrency group as may run at a time."""

    def __init__(self, executor: InlineExecutor, on_end: Callable[[], None]) -> None:
        assert executor.actor is not None
        super().__init__(executor.actor)
        self._on_end = on_end
        self._lock = threading.Lock()
        self._has_ended = False

        def pool(name: str, size: int) -> Any:
            return _Pool(name, size, lambda: executor.runtime.enter(executor), self._after_call)

        self._default = pool("actor-calls", executor.actor.max_concurrency)
        self._pools = {group: pool(f"actor-{group}", size) for group, size in executor.actor.groups.items()}

    def start(self) -> None:
        """Start to serve: threads come with the calls."""

    def deliver(self, sender: int, payload: bytes) -> None:
        """Hand a call to its group's threads."""
        self._dispatch(sender, payload)

    def _after_call(self) -> None:
        if self._executor.stopping:
            self.stop_when_idle()

    def stop_when_idle(self) -> None:
        """End once what was called is done."""
        with self._lock:
            if self._actor.active or self._has_ended:
                return
            self._has_ended = True
        self._end_threads()
        self._on_end()

    def kill(self) -> None:
        """End the threads that run nothing now; the others when they are done."""
        with self._lock:
            self._has_ended = True
        self._end_threads()
        for pool in (self._default, *self._pools.values()):
            for thread in pool.threads:  # type: ignore[attr-defined]
                if thread is not threading.current_thread() and not self._actor.active:
                    thread.join(END_TIMEOUT_S)

    def _end_threads(self) -> None:
        for pool in (self._default, *self._pools.values()):
            pool.end()  # type: ignore[attr-defined]
