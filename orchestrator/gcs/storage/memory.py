"""No storage at all: for clusters that may end with their head, and for tests."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.gcs.effects import Write
from orchestrator.gcs.storage import Rows


class MemoryStorage:
    """Rows in a dict. It outlives a head only if that is in the same process, as in the simulation."""

    description = "memory (nothing survives the head)"

    def __init__(self) -> None:
        self._rows: Rows = {}

    def load(self) -> Rows:
        """Return a copy of all rows."""
        return {table: dict(rows) for table, rows in self._rows.items() if rows}

    def commit(self, writes: Sequence[Write]) -> None:
        """Take over the writes."""
        for table, key, value in writes:
            rows = self._rows.setdefault(table, {})
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def close(self) -> None:
        """Do nothing."""
