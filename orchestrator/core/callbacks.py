"""Callbacks of the user's, called in a thread of their own.

Whoever learns of a result is in the middle of reading messages, and may hold what a callback would
wait for. So callbacks that wait, submit or take long run elsewhere, one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...]]

#: How long the end of a session waits for a callback that is running.
END_TIMEOUT_S = 2.0


class Callbacks:
    """The thread that calls them; started with the first one."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, function: Callable[..., Any], *args: Any) -> None:
        """Have `function(*args)` called soon."""
        self._queue.put((function, args))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="orchestrator-callbacks", daemon=True)
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """End the thread once what was added has been called."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if thread is not threading.current_thread():
                thread.join(END_TIMEOUT_S)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            function, args = item
            self._call(function, *args)
            del item, function, args
