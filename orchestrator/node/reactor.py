"""An event loop of forty lines: descriptors and what to call when they are readable, or writable."""

from __future__ import annotations

import select
from collections.abc import Callable


class Reactor:
    """Level-triggered epoll. Callbacks may watch and forget descriptors, their own too."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable or its other end is gone."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def watch_writable(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Call `callback`, too, whenever `fd`, which is watched, is writable; None: not any more."""
        if callback is not None:
            if fd not in self._writers:
                self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
            self._writers[fd] = callback
        elif self._writers.pop(fd, None) is not None:
            self._epoll.modify(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching. Must come before the descriptor is closed."""
        self._writers.pop(fd, None)
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run_once(self, timeout_s: float) -> None:
        """Wait for at most `timeout_s`, and call back for what is readable."""
        # epoll counts in milliseconds and rounds up: a timer is late by at most one, and never spins.
        for fd, what in self._epoll.poll(timeout_s):
            writer = self._writers.get(fd) if what & select.EPOLLOUT else None
            if writer is not None:
                writer()
            if what & ~select.EPOLLOUT:
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback()

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()
