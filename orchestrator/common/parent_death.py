"""To end with one's parent, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def prctl(option: int, argument: int) -> None:
    """Call prctl(2) with one argument.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends, now if it has."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call; nobody would tell.
    if os.getppid() != parent_pid:
        os._exit(0)
