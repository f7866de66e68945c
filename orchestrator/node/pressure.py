"""Memory that the store no longer needs goes back to the kernel when the machine runs short of it."""

from __future__ import annotations

from typing import Protocol

#: Below this share of the machine's memory, free pages of the store are worth more elsewhere. Above it
#: they are worth more where they are: a put into warm pages is several times faster than into fresh ones.
AVAILABLE_MIN = 0.1
#: A store that was trimmed a moment ago has little to give.
REPEAT_S = 5.0


class Trimmable(Protocol):
    """The part of a store that this needs."""

    def trim(self) -> int: ...


def available_share(meminfo: str) -> float:
    """Return the share of memory that is available, from the text of /proc/meminfo; 1.0 if it doesn't say."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    try:
        total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return 1.0
    return available / total if total else 1.0


class PressureRelief:
    """Watches the machine's memory and trims the store when there is little left."""

    def __init__(self, store: Trimmable, meminfo_path: str = "/proc/meminfo") -> None:
        self._store = store
        self._meminfo_path = meminfo_path
        self._looked_at_s = 0.0

    def relieve(self, now_s: float) -> int:
        """Trim the store if memory is short; called often, looks rarely. Returns the bytes given back."""
        if now_s - self._looked_at_s < REPEAT_S:
            return 0
        self._looked_at_s = now_s
        try:
            with open(self._meminfo_path) as file:
                share = available_share(file.read())
        except OSError:
            return 0
        return self._store.trim() if share < AVAILABLE_MIN else 0
