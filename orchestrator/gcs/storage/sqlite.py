"""A file of SQLite's, in WAL mode: the storage of a head that is not told otherwise.

`synchronous=NORMAL`: a commit is in the page cache when it returns, so it survives the end of this process
however it ends; a power cut may take the last ones back, and with them nothing in the middle. With
`?synchronous=full` each commit waits for the disk. One connection holds the file exclusively: a second head
on it is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from orchestrator.gcs.effects import Write
from orchestrator.gcs.storage import Rows, StorageError

#: Raised when rows mean something else; a file with another one is refused.
FORMAT_VERSION = 1
_APPLICATION_ID = 0x6F726331  # "orc1"


def path_of(url: str) -> tuple[str, bool]:
    """Return the path in `sqlite:///path?synchronous=full`, and whether commits wait for the disk.

    Raises:
        ValueError: there is none, or it is not absolute.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise ValueError(f"{url[:200]!r} names no file: sqlite:///absolute/path")
    query = parse_qs(parts.query)
    mode = query.pop("synchronous", ["normal"])[-1]
    if query or mode not in ("normal", "full"):
        raise ValueError(f"{url[:200]!r}: after the path there may be ?synchronous=normal or =full")
    return parts.path, mode == "full"


class SqliteStorage:
    """One table of rows. May be opened in one thread and used in another."""

    def __init__(self, where: tuple[str, bool]) -> None:
        path, waits_for_disk = where
        self._path = path
        try:
            # The file is private before SQLite opens it: keys of the cluster lie in it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as exc:
            raise StorageError(f"{path} cannot be opened: {exc}") from None
        try:
            self._prepare(waits_for_disk)
        except sqlite3.Error as exc:
            self._database.close()
            if "locked" in str(exc):
                text = f"{path} is in use by another head that lives; stop it, or give this one another file"
            else:
                text = f"{path} is damaged, or no database of a head: {exc}"
            raise StorageError(text) from None
        except BaseException:
            self._database.close()
            raise

    def _prepare(self, waits_for_disk: bool) -> None:
        execute = self._database.execute
        # Exclusive before WAL: then the index of the log is in memory and not in a file beside.
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("PRAGMA journal_mode=WAL")
        execute(f"PRAGMA synchronous={'FULL' if waits_for_disk else 'NORMAL'}")
        execute("BEGIN IMMEDIATE")
        owner = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        if owner not in (0, _APPLICATION_ID) or version > FORMAT_VERSION:
            text = (
                f"{self._path} has format {version} of program {owner:#x}; this head knows {FORMAT_VERSION}"
            )
            raise StorageError(f"{text}: install the version that wrote it, or give another file")
        execute(f"PRAGMA application_id={_APPLICATION_ID}")
        execute(f"PRAGMA user_version={FORMAT_VERSION}")
        execute(
            "CREATE TABLE IF NOT EXISTS rows ("
            "place TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (place, key)"
            ") WITHOUT ROWID"
        )
        execute("COMMIT")

    @property
    def description(self) -> str:
        """Return what it is."""
        return f"SQLite, {self._path}"

    def load(self) -> Rows:
        """See `Storage`."""
        out: Rows = {}
        try:
            for table, key, value in self._database.execute("SELECT place, key, value FROM rows"):
                out.setdefault(table, {})[key] = bytes(value)
        except sqlite3.Error as exc:
            raise StorageError(f"{self._path} cannot be read: {exc}") from None
        return out

    def commit(self, writes: Sequence[Write]) -> None:
        """See `Storage`."""
        execute = self._database.execute
        try:
            execute("BEGIN IMMEDIATE")
            for table, key, value in writes:
                if value is None:
                    execute("DELETE FROM rows WHERE place=? AND key=?", (table, key))
                else:
                    execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (table, key, value))
            execute("COMMIT")
        except (sqlite3.Error, UnicodeEncodeError) as exc:
            if self._database.in_transaction:
                execute("ROLLBACK")
            raise StorageError(f"{self._path} cannot be written: {exc}; is the disk full?") from None

    def close(self) -> None:
        """See `Storage`."""
        self._database.close()
