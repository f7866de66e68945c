"""The directory of one session: private to its user, and gone with it.

It lies in `$XDG_RUNTIME_DIR/orchestrator`, or in `/tmp/orchestrator-<uid>` where there is no such thing.
Both are 0700 and must belong to the user: on a shared machine anybody could have made
`/tmp/orchestrator-1000` first, and would read the logs. A lock on the file `lock` tells that the session
lives. It is held by an open file description that the node and its parent share, so that it is released when
both are gone, however they went; whoever ends a session removes the directories that nobody holds.

A session that stands has in it the socket at which drivers come in, the facts by which it is found and ended,
and those of its jobs. Begun with `start --head` it has a fixed name, so that its lock admits one at a place.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.node import spill_dir
from orchestrator.node.system import kill_marked

LOGS = "logs"
#: Where the facts of jobs are, in a standing session.
JOBS = "jobs"
#: The socket at which drivers come in, in a standing session.
DOOR = "node.sock"
#: Variable in the environment of every process of a session; its value is the session's directory.
MARK = "ORCHESTRATOR_SESSION_DIR"
#: What a standing session says of itself to whoever looks for it; see `supervisor`.
FACTS = "session.json"
_LOCK = "lock"
_PREFIX = "session-"
#: The directory of the session that this machine's user has begun with `start --head`: one at each place.
HEAD = _PREFIX + "head"
_FAILURE = "last-failure.txt"
#: How long a lock may be held by somebody who only looks, or is about to be gone.
LOCK_TIMEOUT_S = 0.2
#: A directory without a lock that is younger than this may be about to be locked by who has made it.
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


@contextmanager
def socket_address(path: str) -> Iterator[str]:
    """Give a socket's address for a path, also for one longer than the 107 bytes that an address may have."""
    if len(os.fsencode(path)) <= 107:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


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


class SessionStandsError(OSError):
    """Somebody holds the lock of the session's directory."""


def open_session_dir(path: str) -> int:
    """Make the directory, its logs and its lock; return the descriptor that holds the lock.

    What a session of the same path has left that was killed is removed first.

    Raises:
        PermissionError: it, or the directory it lies in, belongs to somebody else or is something else.
        SessionStandsError: a session lives there.
    """
    for _ in range(10):
        try:
            _make_private(os.path.dirname(path))
            _make_private(path)
            lock_fd = _lock(path)
            if lock_fd is None:
                continue  # whoever held it has removed it
            if set(os.listdir(path)) - {_LOCK}:
                kill_marked(MARK, path)
                _empty(path, keep=_LOCK)
            _make_private(os.path.join(path, LOGS))
            return lock_fd
        except FileNotFoundError:
            continue  # the last session of this user has just taken the empty parent away
    raise OSError(f"the directory {path} is removed again and again by somebody")


def _lock(path: str) -> int | None:
    """Return a descriptor that holds the directory's lock; None if it is not this directory's any more."""
    file = os.path.join(path, _LOCK)
    lock_fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                # Somebody may only be looking whether it is held.
                if time.monotonic() > deadline_s:
                    raise SessionStandsError(f"a session lives at {path}") from None
                time.sleep(0.002)
        try:
            if os.stat(file).st_ino == os.fstat(lock_fd).st_ino:
                kept, lock_fd = lock_fd, -1
                return kept
        except FileNotFoundError:
            pass
        return None
    finally:
        if lock_fd >= 0:
            os.close(lock_fd)


def remove_session_dir(path: str) -> None:
    """Remove a session's directory and all in it, and the parent if it was the last. Never fails."""
    _empty(path)
    _try(os.rmdir, path)
    parent = os.path.dirname(path)
    if os.path.basename(parent).startswith("orchestrator"):
        _try(os.rmdir, parent)


def _empty(path: str, keep: str = "") -> None:
    spill_dir.remove_linked(path)
    for parent, directories, files in os.walk(path, topdown=False):
        for name in files:
            if parent != path or name != keep:
                _try(os.unlink, os.path.join(parent, name))
        for name in directories:
            child = os.path.join(parent, name)
            _try(os.unlink if os.path.islink(child) else os.rmdir, child)


def write_facts(path: str, facts: dict[str, Any]) -> None:
    """Have a standing session be known by these facts."""
    place = os.path.join(path, FACTS)
    with open(place + ".new", "w", encoding="utf-8") as file:
        json.dump(facts, file)
    os.rename(place + ".new", place)


def read_facts(path: str) -> dict[str, Any]:
    """Return the facts of a standing session; {} if there are none."""
    try:
        with open(os.path.join(path, FACTS), encoding="utf-8") as file:
            facts: dict[str, Any] = json.load(file)
            return facts
    except (OSError, ValueError):
        return {}


def note_failure(root: str, text: str) -> None:
    """Keep why the last standing session has ended by itself, for whoever asks. Never fails."""
    try:
        with open(os.path.join(root, _FAILURE), "w", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    except OSError:
        pass


def last_failure(root: str) -> str:
    """Return why the last standing session has ended, if it did so by itself; else ""."""
    try:
        with open(os.path.join(root, _FAILURE), encoding="utf-8", errors="replace") as file:
            return file.read(20_000)
    except OSError:
        return ""


def forget_failure(root: str) -> None:
    """A new session is started here."""
    _try(os.unlink, os.path.join(root, _FAILURE))


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
            if not name.startswith(_PREFIX):
                continue
            if now_s - os.lstat(path).st_mtime < SWEEP_AGE_MIN_S and not _has_dead_maker(name):
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


def _has_dead_maker(name: str) -> bool:
    """Tell whether the process that made a session's directory has ended, if the name says which it was."""
    pid = name[len(_PREFIX) :].partition("-")[0]
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # it is somebody else's
    return False


def standing_sessions(root: str) -> list[str]:
    """Return the directories of the sessions here that drivers may attach to, in order; they may be dying."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    paths = [os.path.join(root, name) for name in names if name.startswith(_PREFIX)]
    return [path for path in paths if os.path.lexists(os.path.join(path, DOOR)) and is_held(path)]


def is_held(path: str) -> bool:
    """Tell whether somebody holds a session's lock."""
    try:
        lock_fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock_fd)
    return False


def _try(function: Callable[[str], None], path: str) -> None:
    try:
        function(path)
    except OSError:
        pass
