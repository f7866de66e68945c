"""A small store of bytes by namespace and key, for whatever all nodes must find: no more than that.

Bounded three ways: a key, a value, and all together, because all of it is kept in the head's memory. What is
larger belongs into the object store.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.gcs.effects import Write
from orchestrator.gcs.requests import (
    Answer,
    DeleteValue,
    Done,
    GetValue,
    Keys,
    ListKeys,
    PutValue,
    Refused,
    Value,
)

TABLE = "kv"
KEY_SIZE_MAX_BYTES = 4096
VALUE_SIZE_MAX_BYTES = 16 << 20
TOTAL_SIZE_MAX_BYTES = 512 << 20
#: An entry costs this beside its key and value.
ENTRY_SIZE_BYTES = 200


class KvTable:
    """Pure."""

    def __init__(self, *, total_size_max_bytes: int = TOTAL_SIZE_MAX_BYTES) -> None:
        self._total_size_max_bytes = total_size_max_bytes
        self._spaces: dict[str, dict[bytes, bytes]] = {}
        #: Sum over all entries.
        self.size_bytes = 0

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Take over what a former head has stored: rows with their keys."""
        for row, value in rows:
            key, _, namespace = row.partition("/")
            self._spaces.setdefault(namespace, {})[bytes.fromhex(key)] = value
            self.size_bytes += _size(bytes.fromhex(key), value)

    def put(self, request: PutValue) -> tuple[Answer, list[Write]]:
        """Store a value."""
        namespace, key, value, overwrite = request
        if len(namespace) > KEY_SIZE_MAX_BYTES or len(key) > KEY_SIZE_MAX_BYTES:
            return Refused("too_large", f"keys and namespaces have at most {KEY_SIZE_MAX_BYTES} bytes"), []
        if len(value) > VALUE_SIZE_MAX_BYTES:
            text = f"the value has {len(value)} bytes, and may have {VALUE_SIZE_MAX_BYTES}"
            return Refused("too_large", f"{text}: put it into the object store"), []
        old = self._spaces.get(namespace, {}).get(key)
        if old is not None and not overwrite:
            return Done(0), []
        size_bytes = self.size_bytes + _size(key, value) - (_size(key, old) if old is not None else 0)
        if size_bytes > self._total_size_max_bytes:
            text = f"the key-value table would have {size_bytes} bytes; at most {self._total_size_max_bytes}"
            return Refused("too_large", text), []
        self.size_bytes = size_bytes
        self._spaces.setdefault(namespace, {})[key] = value
        return Done(1), [Write(TABLE, _row(namespace, key), value)]

    def get(self, request: GetValue) -> Answer:
        """Return a value."""
        return Value(self._spaces.get(request.namespace, {}).get(request.key))

    def delete(self, request: DeleteValue) -> tuple[Answer, list[Write]]:
        """Remove a key, or all that begin with it."""
        space = self._spaces.get(request.namespace, {})
        if request.prefix:
            keys = [key for key in space if key.startswith(request.key)]
        else:
            keys = [request.key] if request.key in space else []
        for key in keys:
            self.size_bytes -= _size(key, space.pop(key))
        if not space:
            self._spaces.pop(request.namespace, None)
        return Done(len(keys)), [Write(TABLE, _row(request.namespace, key), None) for key in keys]

    def keys(self, request: ListKeys) -> Answer:
        """Return the keys that begin with a prefix."""
        space = self._spaces.get(request.namespace, {})
        return Keys(tuple(sorted(key for key in space if key.startswith(request.prefix))))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        assert all(self._spaces.values()), "an empty namespace is kept"
        sizes = (_size(key, value) for space in self._spaces.values() for key, value in space.items())
        assert sum(sizes) == self.size_bytes <= self._total_size_max_bytes


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_SIZE_BYTES


def _row(namespace: str, key: bytes) -> str:
    return f"{key.hex()}/{namespace}"
