"""Where the tables of the head outlive it. One interface, three storages, one suite that all of them pass.

A storage holds rows: table and key to bytes. The head reads all of it once, when it starts, and from then on
only writes: `commit` takes the writes of many requests at a time and returns when they are safe, all or none
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.gcs.effects import Write

Rows = dict[str, dict[str, bytes]]


class StorageError(Exception):
    """The storage cannot be used; the text says which, why, and what to do. The head ends with it."""


class Storage(Protocol):
    """Called from one thread at a time; calls may block."""

    @property
    def description(self) -> str:
        """What it is, for people; without passwords."""

    def load(self) -> Rows:
        """Return all rows.

        Raises:
            StorageError: it cannot be read.
        """

    def commit(self, writes: Sequence[Write]) -> None:
        """Store all of these, in order, or none. What it returned from survives the end of this process.

        Raises:
            StorageError: they are not stored, or another head has taken the storage over.
        """

    def close(self) -> None:
        """Give everything back. What was committed stays."""


def open_storage(url: str, complain: Callable[[str], None] = lambda text: None) -> Storage:
    """Open a storage: `memory`, `sqlite:///path`, `redis://host:port/db` or `unix:///path/of/redis.sock`.

    `complain` is told when a commit has to wait for long.

    Raises:
        StorageError: it cannot be opened, or is held by another head that lives.
        ValueError: that is no URL of a storage.
    """
    kind = url.partition(":")[0]
    if url == "memory":
        from orchestrator.gcs.storage.memory import MemoryStorage

        return MemoryStorage()
    if kind == "sqlite":
        from orchestrator.gcs.storage.sqlite import SqliteStorage, path_of

        return SqliteStorage(path_of(url))
    if kind in ("redis", "rediss", "unix"):
        from orchestrator.gcs.storage.redis import RedisStorage

        return RedisStorage(url, complain=complain)
    raise ValueError(f"{url[:100]!r} names no storage: it is memory, sqlite:///PATH or redis://HOST:PORT/DB")
