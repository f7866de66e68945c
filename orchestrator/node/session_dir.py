"""The directory of one session: private to its user, and gone with it.

It lies in `$XDG_RUNTIME_DIR/orchestrator`, or in `/tmp/orchestrator-<uid>` where there is no such thing.
Both are 0700 and must belong to the user: on a shared machine anybody could have made
`/tmp/orchestrator-1000` first, and would read the logs. A lock on the file `lock` tells that the session
lives. It is held by an open file description that the driver and the node share, so that it is released when
both are gone, however they went; whoever ends a session removes the directories that nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable

from orchestrator.node import spill_dir
from orchestrator.node.system import kill_marked

LOGS = "logs"
#: Variable in the environment of every process of a session; its value is the session's directory.
MARK = "ORCHESTRATOR_SESSION_DIR"
_LOCK = "lock"
_PREFIX = "session-"
#: A directory without a lock that is younger than this may be about to be locked.
SWEEP_AGE_MIN_S = 60.0


def runtime_root(parent: str | None = None) -> str:
    """Return where sessions of this user live, in `parent` if that is given; it need not exist."""
    if parent is not None:
        return os.path.join(os.path.abspath(parent), f"orchestrator-{os.getuid()}")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        try:
            found = os.stat(runtime)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(runtime, os.W_OK):
                return os.path.join(runtime, "orchestrator")
        except OSError:
            pass
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"orchestrator-{os.getuid()}")


def new_session_path(parent: str | None = None) -> str:
    """Return the path of a session directory that does not exist yet."""
    return os.path.join(runtime_root(parent), f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")


def _make_private(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{path} is not a directory; remove it, or set XDG_RUNTIME_DIR")
    if found.st_uid != os.getuid():
        raise PermissionError(
            f"{path} belongs to user {found.st_uid}, not to {os.getuid()}; set XDG_RUNTIME_DIR or TMPDIR to "
            "a directory of your own"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(path, 0o700)


def open_session_dir(path: str) -> int:
    """Make the directory, its logs and its lock; return the descriptor that holds the lock.

    Raises:
        PermissionError: it, or the directory it lies in, belongs to somebody else or is something else.
    """
    for _ in range(10):
        try:
            _make_private(os.path.dirname(path))
            _make_private(path)
            _make_private(os.path.join(path, LOGS))
            break
        except FileNotFoundError:
            continue  # the last session of this user has just taken the empty parent away
    lock_fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock_fd


def remove_session_dir(path: str) -> None:
    """Remove a session's directory and all in it, and the parent if it was the last. Never fails."""
    spill_dir.remove_linked(path)
    for parent, directories, files in os.walk(path, topdown=False):
        for name in files:
            _try(os.unlink, os.path.join(parent, name))
        for name in directories:
            child = os.path.join(parent, name)
            _try(os.unlink if os.path.islink(child) else os.rmdir, child)
    _try(os.rmdir, path)
    parent = os.path.dirname(path)
    if os.path.basename(parent).startswith("orchestrator"):
        _try(os.rmdir, parent)


def sweep_dead_sessions(root: str, *, now_s: float | None = None) -> list[str]:
    """Remove the directories of sessions whose driver and node were both killed; return their paths."""
    now_s = time.time() if now_s is None else now_s
    swept = []
    try:
        names = os.listdir(root)
    except OSError:
        return []
    for name in names:
        path = os.path.join(root, name)
        try:
            if not name.startswith(_PREFIX) or now_s - os.lstat(path).st_mtime < SWEEP_AGE_MIN_S:
                continue
            lock_fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kill_marked(MARK, path)
            remove_session_dir(path)
            swept.append(path)
        except OSError:
            pass  # it lives
        finally:
            os.close(lock_fd)
    return swept


def _try(function: Callable[[str], None], path: str) -> None:
    try:
        function(path)
    except OSError:
        pass
