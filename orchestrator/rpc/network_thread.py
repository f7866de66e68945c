"""The one thread of a node process that speaks gRPC, and its way back to the node's own loop.

The node's loop is single-threaded and waits on descriptors; gRPC wants an asyncio loop. So asyncio runs in a
thread of its own, whatever is for the node goes into a queue, and a descriptor becomes readable. Nothing but
the queue is shared: what crosses it is never changed afterwards.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

#: Calls per `poll`, so that the node's other work has its turn.
POLL_MAX = 1000
_STOP_TIMEOUT_S = 5.0
#: For what gRPC has to finish when the thread ends.
_LEAVE_S = 1.0


class NetworkThread:
    """Started at once; stopped by `close`. Methods are for the node's thread, `post` is for the network's."""

    def __init__(self, name: str = "network") -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._is_signalled = False
        self._lock = threading.Lock()
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.loop = asyncio.new_event_loop()
        self._spawned: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self._end_tasks())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _end_tasks(self) -> None:
        """Cancel what was spawned; then what that has left, gRPC's tasks, may end, for a while.

        A call that was cancelled is over when its status has come; a task of gRPC waits for it. Were that
        cancelled too, the status would come to a closed loop, and the call, and gRPC's poller with it, would
        never go.
        """
        spawned = list(self._spawned)
        for task in spawned:
            task.cancel()
        await asyncio.gather(*spawned, return_exceptions=True)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            _, rest = await asyncio.wait(rest, timeout=_LEAVE_S)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something to `poll`."""
        return self._wake_r

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the network thread."""
        self.loop.call_soon_threadsafe(self._begin, coroutine)

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(coroutine)
        self._spawned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        if not task.cancelled():
            task.exception()  # whoever spawned it has been told what matters to it

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the network thread."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        """Run a coroutine in the network thread, and wait for it here: only when a node begins or ends.

        Raises:
            TimeoutError: it was not done by then; it is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(f"not done within {timeout_s:g} s") from None
        except BaseException:
            future.cancel()
            raise

    def post(self, function: Callable[[], None]) -> None:
        """Have the node's thread call this in its next `poll`. From any thread."""
        with self._lock:
            self._calls.append(function)
            if self._is_signalled or self._is_closed:
                return
            self._is_signalled = True
            os.write(self._wake_w, b"!")

    def poll(self) -> None:
        """Call what was posted. In the node's thread, whenever the descriptor is readable."""
        with self._lock:
            count = min(len(self._calls), POLL_MAX)
            if count == len(self._calls) and self._is_signalled:
                self._is_signalled = False
                os.read(self._wake_r, 64)
        for _ in range(count):
            self._calls.popleft()()

    def close(self) -> None:
        """Cancel all that runs in the thread, and end it."""
        if self._is_closed:
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_TIMEOUT_S)
        with self._lock:
            self._is_closed = True
            self._calls.clear()
        os.close(self._wake_r)
        os.close(self._wake_w)
