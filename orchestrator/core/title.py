"""What `ps` and `top` show for this process: the function it runs.

The kernel shows a process's own memory where its arguments were; this writes there. A change costs more than
a short task, so a worker's title is brought up to date about once a second (see `Executor`).
"""

from __future__ import annotations

import ctypes
import os

PREFIX = "orchestrator::"

_PR_SET_NAME = 15
_COMM_BYTES_MAX = 15


class ProcessTitle:
    """Writes the title; does nothing where the arguments' memory cannot be found."""

    def __init__(self) -> None:
        self.text = ""
        self._pid = 0
        self._area: ctypes.Array[ctypes.c_char] | None = None
        try:
            with open("/proc/self/stat") as file:
                # The name in parentheses may hold anything, spaces and parentheses included.
                fields = file.read().rpartition(")")[2].split()
            start, end = int(fields[45]), int(fields[46])
            if end - start > len(PREFIX):
                self._area = (ctypes.c_char * (end - start)).from_address(start)
                self._pid = os.getpid()
        except (OSError, ValueError, IndexError):
            pass

    def show(self, what: str) -> None:
        """Make the title `orchestrator::what`."""
        if what == self.text or self._area is None or self._pid != os.getpid():
            return
        self.text = what
        data = (PREFIX + what).encode(errors="replace")
        size = len(self._area)
        self._area.raw = data[: size - 1].ljust(size, b"\0")
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, what.rpartition(".")[2].encode(errors="replace")[:_COMM_BYTES_MAX], 0, 0, 0)
