"""Log messages that would be repeated."""

from __future__ import annotations

import threading
import time

#: How often a message comes again after `enable_periodic_logging()`.
PERIOD_S = 60.0


class _Said:
    """What this process has said, and how often it may say it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._when: dict[str, float] = {}
        self.enabled = True
        self.periodic = False

    def first(self, key: str) -> bool:
        with self._lock:
            if not self.enabled:
                return False
            now = time.monotonic()
            said = self._when.get(key)
            if said is None or (self.periodic and now - said >= PERIOD_S):
                self._when[key] = now
                return True
            return False

    def forget(self, key: str | None) -> None:
        with self._lock:
            if key is None:
                self._when.clear()
            else:
                self._when.pop(key, None)


_said = _Said()


def log_once(key: str) -> bool:
    """Tell whether this is the first time this process asks with this key.

    if log_once("slow path"):
        logger.warning("taking the slow path")
    """
    return _said.first(key)


def disable_log_once_globally() -> None:
    """Have `log_once` answer False from now on."""
    _said.enabled = False


def enable_periodic_logging() -> None:
    """Have `log_once` answer True once a minute rather than once."""
    _said.periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that a key was asked for; None: all keys."""
    _said.forget(key)
