"""Processes that do not run for a while.

Run as a program with a pid, it stops that process where all of its threads sleep, says so, and lets it go on
when its own standard input ends, or after a minute.
"""

from __future__ import annotations

import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
TIMEOUT_S = 60.0
#: Between two looks at a process that is to stop.
LOOK_S = 0.002
#: What it gets from one attempt to the next, doubled from the first to the last: it may have much to do, and
#: has more to do the longer it is kept from it.
PAUSE_S = (0.005, 0.5)
_STOPPED = "stopped"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running.

    It is stopped where all of its threads sleep. Stopped anywhere else it might hold a lock of the store, and
    then whoever shares the store, the test too, waits until it goes on: docs/caveats.md. Where it is shows
    only once it is stopped; so this is done by a process of its own, which shares nothing and waits for
    nobody.

    Raises:
        AssertionError: it could not be stopped.
    """
    command = [sys.executable, "-S", __file__, str(pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stopper:
        assert stopper.stdout is not None and stopper.stdin is not None
        try:
            said = stopper.stdout.readline().strip()
            assert said == _STOPPED, f"process {pid} could not be stopped: {said}"
            yield
        finally:
            stopper.stdin.close()
            stopper.wait(TIMEOUT_S)


def main(pid: int) -> None:
    """Stop a process until the standard input ends."""
    deadline_s = time.monotonic() + TIMEOUT_S
    pause_s = PAUSE_S[0]
    try:
        while not _stop_asleep(pid, deadline_s):
            os.kill(pid, signal.SIGCONT)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S[1])
        print(_STOPPED, flush=True)
        select.select([sys.stdin], [], [], TIMEOUT_S)  # whoever has begun this may be stuck because of it
    except OSError as error:  # it is too busy, or has ended
        print(error, flush=True)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stop_asleep(pid: int, deadline_s: float) -> bool:
    os.kill(pid, signal.SIGSTOP)
    while any(line.rpartition(")")[2].split()[0] != "T" for line in _lines(pid, "stat")):
        if time.monotonic() > deadline_s:
            raise TimeoutError("it does not stop")
        time.sleep(LOOK_S)
    awake = [line for line in _lines(pid, "syscall") if not _is_asleep(line)]
    if awake and time.monotonic() > deadline_s:
        raise TimeoutError(f"it never sleeps in {TIMEOUT_S:g} s; its threads are at {awake}")
    return not awake


def _lines(pid: int, name: str) -> list[str]:
    """Return what a file of /proc says of each thread."""
    lines = []
    for path in Path(f"/proc/{pid}/task").iterdir():
        # A thread that has just ended; or a kernel that shows only its parents where a process is.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            lines.append((path / name).read_text())
    return lines


def _is_asleep(line: str) -> bool:
    number, *arguments = line.split()
    if not number.isdecimal():
        return False  # it runs
    return int(number) in _SLEEPS or (int(number) == _FUTEX and int(arguments[1], 16) & 0x7F in _WAITS)


if __name__ == "__main__":
    main(int(sys.argv[1]))
