"""Processes that do not run for a while."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until

#: System calls in which a thread sleeps that has nothing to do: nanosleep, clock_nanosleep, epoll_wait,
#: epoll_pwait, poll, ppoll, select, pselect6, read, recvfrom, recvmsg; and restart_syscall, which goes on
#: with a sleep that was interrupted by a stop.
_SLEEPS = {
    "x86_64": {35, 230, 232, 281, 7, 271, 23, 270, 0, 45, 47, 219},
    "aarch64": {101, 115, 22, 73, 72, 63, 207, 212, 128},
}[platform.machine()]
_FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
#: Of the operations of a futex, without their flags: FUTEX_WAIT and FUTEX_WAIT_BITSET.
_WAITS = (0, 9)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running.

    It is stopped where all of its threads sleep. Stopped anywhere else it might hold a lock of the store, and
    then whoever shares the store, the test too, waits until it goes on: docs/caveats.md.
    """

    def stop_asleep() -> bool:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: all(line.rpartition(")")[2].split()[0] == "T" for line in _lines(pid, "stat")))
        if all(_is_asleep(line) for line in _lines(pid, "syscall")):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    try:
        until(stop_asleep)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _lines(pid: int, name: str) -> list[str]:
    """Return what a file of /proc says of each thread."""
    return [(path / name).read_text() for path in Path(f"/proc/{pid}/task").iterdir()]


def _is_asleep(line: str) -> bool:
    number, *arguments = line.split()
    if not number.isdecimal():
        return False  # it runs
    return int(number) in _SLEEPS or (int(number) == _FUTEX and int(arguments[1], 16) & 0x7F in _WAITS)
