"""What outlives sessions: built environments, each in a directory named after what it was built from.

Beside each directory lies the file of its lock. Whoever builds it holds the lock alone; whoever uses it holds
it together with other users, from before the first worker to the end of the session. The kernel releases a
lock when its holder dies, so a directory without the mark of completeness and without a holder is rubbish,
and one that nobody holds may be removed to make room.
"""

from __future__ import annotations

import fcntl
import os

from orchestrator.common import environ

_COMPLETE = ".complete"
_PREFIX = "pip-"
CACHE_GB = 10.0


def cache_root() -> str:
    """Return where environments are kept; it need not exist."""
    chosen = os.environ.get("ORCHESTRATOR_CACHE_DIR")
    if chosen:
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "orchestrator", "environments")


class CachedEnvironment:
    """One directory of the cache."""

    def __init__(self, key: str, root: str) -> None:
        self.path = os.path.join(root, _PREFIX + key)
        self._lock_path = self.path + ".lock"

    @property
    def python(self) -> str:
        """The interpreter in it."""
        return os.path.join(self.path, "bin", "python")

    @property
    def complete(self) -> bool:
        """Whether it has been built to the end."""
        return os.path.exists(os.path.join(self.path, _COMPLETE))

    def lock_to_build(self) -> int:
        """Wait until nobody else builds or uses it; return the descriptor that holds the lock."""
        return self._lock(fcntl.LOCK_EX)

    def lock_to_use(self) -> int | None:
        """Return a descriptor that keeps it from being removed; None if it is not there, or being built."""
        if not self.complete:
            return None
        try:
            fd = self._lock(fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if self.complete:
            os.utime(os.path.join(self.path, _COMPLETE))
            return fd
        os.close(fd)
        return None

    def _lock(self, how: int) -> int:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        while True:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, how)
                # Whoever removes an environment removes its lock too: it may have been another file's.
                if os.path.samestat(os.fstat(fd), os.stat(self._lock_path)):
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def mark_complete(self) -> None:
        """Say that it has been built to the end."""
        with open(os.path.join(self.path, _COMPLETE), "w"):
            pass

    def clear(self) -> None:
        """Remove what is there. The lock to build must be held."""
        import shutil  # not cheap, and only for builders

        shutil.rmtree(self.path, ignore_errors=True)

    def remove(self) -> bool:
        """Remove it, with its lock, unless somebody holds that."""
        try:
            fd = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.clear()
        os.unlink(self._lock_path)
        os.close(fd)
        return True


def make_room(root: str, keep: str) -> list[str]:
    """Remove what was not used for longest until the rest is within the limit; return the paths."""
    limit_bytes = environ.number("RUNTIME_ENV_PIP_CACHE_SIZE_GB", CACHE_GB) * 1e9
    found = []
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith(_PREFIX) and os.path.isdir(path):
            mark = os.path.join(path, _COMPLETE)
            used_at_s = os.stat(mark).st_mtime if os.path.exists(mark) else 0.0
            found.append((used_at_s, path, _size_bytes(path)))
    total_bytes = sum(size for _, _, size in found)
    removed = []
    for _, path, size in sorted(found):
        if total_bytes <= limit_bytes:
            break
        key = os.path.basename(path).removeprefix(_PREFIX)
        if path != keep and CachedEnvironment(key, root).remove():
            total_bytes -= size
            removed.append(path)
    return removed


def _size_bytes(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                pass
    return total
