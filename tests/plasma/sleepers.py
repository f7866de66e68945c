"""Threads that sleep in a store: to test that they are woken, one must know that they sleep."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

#: system call numbers of futex(): x86-64 and aarch64
FUTEX = ("202", "98")
#: FUTEX_WAIT on shared memory; the interpreter's own locks are private ones
FUTEX_WAIT = "0x0"


def run(body: Callable[[], object]) -> threading.Thread:
    """A started thread."""
    thread = threading.Thread(target=body)
    thread.start()
    return thread


def until_asleep(thread: threading.Thread) -> None:
    """Return when ``thread`` sleeps on a bell in a store, or has ended."""
    path = Path(f"/proc/self/task/{thread.native_id}/syscall")
    while thread.is_alive():
        try:
            call = path.read_text().split()
        except OSError:  # it has just ended
            continue
        if len(call) > 2 and call[0] in FUTEX and call[2] == FUTEX_WAIT:
            return
        os.sched_yield()
