"""What a test must give back: processes, descriptors, threads, shared memory.

``no_leaks`` checks around one test. Every module of tests is checked as a whole without asking for it, once
its own fixtures are gone, so that a module may keep a session open for all of its tests.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

#: How long what was told to end may take to be gone. On a busy machine a killed process, or the poller of
#: gRPC that goes with its last channel, needs its time; only a leak waits to the end.
SETTLE_TIMEOUT_S = 20.0
POLL_S = 0.01
#: Threads that live as long as the process by their libraries' design.
THREADS_IGNORED = ("pymp-", "QueueFeederThread", "asyncio_", "tqdm", "rich")
DESCRIPTORS_IGNORED = ("/dev/null", "/dev/tty", "/dev/pts", "/dev/urandom", "anon_inode:[pidfd]:self")


@dataclass(frozen=True)
class Holdings:
    """What this process holds, each as a set of descriptions that a person can read."""

    processes: frozenset[str]
    descriptors: frozenset[str]
    threads: frozenset[str]
    shared_memory: frozenset[str]

    def beyond(self, before: Holdings) -> list[str]:
        """What is held now and was not ``before``."""
        return [
            f"{kind.replace('_', ' ')}: {held}"
            for kind in ("processes", "descriptors", "threads", "shared_memory")
            for held in sorted(getattr(self, kind) - getattr(before, kind))
        ]


def _processes() -> frozenset[str]:
    """All living descendants, by pid and start time (pids are used again) with their command lines."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        state, parent, start_ticks = fields[0], int(fields[1]), fields[19]
        label = f"pid {entry.name} (state {state}, started at tick {start_ticks}): {command[:120]}"
        parents.setdefault(parent, []).append((int(entry.name), label))
    found, queue = [], [os.getpid()]
    while queue:
        for pid, label in parents.get(queue.pop(), []):
            found.append(label)
            queue.append(pid)
    return frozenset(found)


def _descriptors() -> frozenset[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # the directory's own descriptor, closed by now
        if not target.startswith(DESCRIPTORS_IGNORED) and not target.startswith(f"/proc/{os.getpid()}/fd"):
            found.append(f"{entry.name} → {target}")
    return frozenset(found)


def _threads() -> frozenset[str]:
    return frozenset(
        f"{thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if not thread.name.startswith(THREADS_IGNORED)
    )


def _shared_memory() -> frozenset[str]:
    """Mapped memfds of this process, with their addresses, and files of ours in /dev/shm.

    Files of other names there are other programs': ours makes none but those of `pl_memory_file`.
    """
    mapped = [
        f"{line.split()[0]} {line.partition('/memfd:')[2]}"
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/memfd:" in line
    ]
    files = []
    for path in Path("/dev/shm").glob("plasma-*"):
        try:
            if path.stat().st_uid == os.getuid():
                files.append(str(path))
        except OSError:
            continue
    return frozenset([*mapped, *files])


def holdings() -> Holdings:
    return Holdings(_processes(), _descriptors(), _threads(), _shared_memory())


def leaked_since(before: Holdings, timeout_s: float = SETTLE_TIMEOUT_S) -> list[str]:
    """What is still held beyond ``before`` after at most ``timeout_s``; sooner when nothing is."""
    gc.collect()
    pause = threading.Event()
    deadline_s = time.monotonic() + timeout_s
    while (leaked := holdings().beyond(before)) and time.monotonic() < deadline_s:
        pause.wait(POLL_S)
    return leaked


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """This test leaves no process, descriptor, thread or shared memory behind."""
    before = holdings()
    yield
    leaked = leaked_since(before)
    assert not leaked, "left behind by the test:\n  " + "\n  ".join(leaked)


@pytest.fixture(scope="module", autouse=True)
def module_leaves_nothing() -> Iterator[None]:
    """A module of tests leaves nothing behind. Torn down last: the module's own fixtures are gone then."""
    before = holdings()
    yield
    leaked = leaked_since(before)
    assert not leaked, "left behind by the tests of this module:\n  " + "\n  ".join(leaked)
