"""The few system calls that the standard library does not wrap, and the end of whole process trees."""

from __future__ import annotations

import os
import signal
import time

from orchestrator.common.descriptor_limit import raise_descriptor_limit as raise_descriptor_limit
from orchestrator.common.parent_death import die_with_parent as die_with_parent
from orchestrator.common.parent_death import prctl

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def unblock_signals() -> None:
    """Receive every signal: the thread that started this process may have blocked some."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def send_signal(pid: int, pidfd: int, number: int) -> None:
    """Send a signal to one process, by its pidfd (which cannot hit another one) where there is one."""
    try:
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        pass


def open_pidfd(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends; -1 before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def start_ticks(pid: int) -> int:
    """Return when a process was started, in the kernel's ticks: with its pid it names one process for good.

    0 if there is none, or it has ended.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
            return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process, the zombies among them too."""
    try:
        found: list[int] = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
        return found
    except FileNotFoundError:
        return [child for child, parent, _ in _process_table() if parent == pid]


def _process_table() -> list[tuple[int, int, int]]:
    """Return (pid, parent's pid, session id) of every process."""
    table = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                # The name in parentheses may hold anything, spaces and parentheses included.
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        table.append((int(name), int(fields[1]), int(fields[3])))
    return table


def kill_children_until_none(timeout_s: float) -> bool:
    """Kill all descendants of this process, which adopts orphans, and reap them. False if some were left."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        for child in children_of(os.getpid()):
            send_signal(child, -1, signal.SIGKILL)  # not reaped yet: the pid is his
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.001)


def kill_marked(variable: str, value: str) -> None:
    """Kill every process of this user that was started with this value in its environment."""
    mark = f"{variable}={value}".encode()
    for _ in range(10):  # one of them may fork while the list is read
        found = False
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            pidfd = open_pidfd(int(name))  # before the look, so that both are about the same process
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found = True
                        send_signal(int(name), pidfd, signal.SIGKILL)
            except OSError:
                pass  # gone, or somebody else's
            finally:
                if pidfd >= 0:
                    os.close(pidfd)
        if not found:
            return
