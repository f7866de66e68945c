"""A small event loop: descriptors and what to call when they are readable, or writable."""

from __future__ import annotations

import select
from collections.abc import Callable
from os import sched_yield
from time import monotonic

#: How long that is at most, and at least.
LOOK_S, LOOK_S_MIN = 60e-6, 8e-6

#: What a callback returns that has only passed something on: nobody else need look at anything for that.
CARRIED = True

#: Called when a descriptor is readable; returns CARRIED, or nothing.
Callback = Callable[[], "bool | None"]


class Reactor:
    """Level-triggered epoll. Callbacks may watch and forget descriptors, their own too."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        #: how long is looked for more, after something was passed on, before it is slept for
        self._look_s = 0.0
        #: called after callbacks that have only passed something on; True if the rest of the loop must look
        self.after_carrying: Callable[[], bool | None] = lambda: None

    def watch(self, fd: int, callback: Callback) -> None:
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

    def run(self, timeout_s: float) -> None:
        """Wait for at most `timeout_s` until something happens that the rest of the loop must look at."""
        deadline_s = monotonic() + timeout_s
        wait = self._sleep
        while self._call_back(wait(timeout_s)):
            if self.after_carrying():
                return
            timeout_s = deadline_s - monotonic()
            if timeout_s <= 0:
                return
            wait = self._look_and_sleep

    def run_once(self, timeout_s: float) -> bool:
        """Wait for at most `timeout_s`, and call back for what is readable.

        Returns True if something was, and all of it was only passed on.
        """
        return self._call_back(self._sleep(timeout_s))

    def _sleep(self, timeout_s: float) -> list[tuple[int, int]]:
        # epoll counts in milliseconds and rounds up: a timer is late by at most one, and never spins.
        return self._epoll.poll(timeout_s)

    def _look_and_sleep(self, timeout_s: float) -> list[tuple[int, int]]:
        """Wait for what follows on something that was passed on: awake at first, if that was worth it lately.

        The answer to a call often comes sooner than a core that has gone to sleep would be awake. Where it
        doesn't, or calls do not wait for each other, that is noticed after a few.
        """
        poll = self._epoll.poll
        began_s = now_s = monotonic()
        until_s = began_s + min(self._look_s, timeout_s)
        ready: list[tuple[int, int]] = []
        while now_s < until_s and not (ready := poll(0)):
            sched_yield()
            now_s = monotonic()
        ready = ready or poll(max(timeout_s - (now_s - began_s), 0))
        if monotonic() - began_s < LOOK_S:
            self._look_s = LOOK_S
        else:
            self._look_s = self._look_s / 2 if self._look_s > LOOK_S_MIN else 0.0
        return ready

    def _call_back(self, ready: list[tuple[int, int]]) -> bool:
        carried = bool(ready)
        for fd, what in ready:
            writer = self._writers.get(fd) if what & select.EPOLLOUT else None
            if writer is not None:
                writer()
                carried = False
            if what & ~select.EPOLLOUT:
                callback = self._callbacks.get(fd)
                if callback is not None and callback() is not CARRIED:
                    carried = False
        return carried

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()
