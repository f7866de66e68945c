"""A small store of bytes by name, shared by the session: the functions that Ray has under these names.

It is an actor, so a look-up costs a message there and back. For objects, prefer references; for what is to
be found by name, a named actor.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api.getting import get
from orchestrator.api.remote import remote
from orchestrator.api.session import is_initialized

Text = str | bytes

_DEFAULT = b""


def _internal_kv_initialized() -> bool:
    """Tell whether there is a session."""
    return is_initialized()


def _internal_kv_get(key: Text, *, namespace: Text | None = None) -> bytes | None:
    """Return the value of a key, or None."""
    found: bytes | None = get(_store().read.remote(_bytes(namespace), _bytes(key)))
    return found


def _internal_kv_exists(key: Text, *, namespace: Text | None = None) -> bool:
    """Tell whether a key has a value."""
    return _internal_kv_get(key, namespace=namespace) is not None


def _internal_kv_put(
    key: Text, value: Text, overwrite: bool = True, *, namespace: Text | None = None
) -> bool:
    """Set the value of a key, unless it has one and `overwrite` is False; tell whether it had one."""
    return bool(get(_store().write.remote(_bytes(namespace), _bytes(key), _bytes(value), overwrite)))


def _internal_kv_del(key: Text, *, del_by_prefix: bool = False, namespace: Text | None = None) -> int:
    """Delete a key, or all that begin with it; return how many there were."""
    return int(get(_store().delete.remote(_bytes(namespace), _bytes(key), del_by_prefix)))


def _internal_kv_list(prefix: Text, *, namespace: Text | None = None) -> list[bytes]:
    """Return the keys that begin with a prefix, in order."""
    return list(get(_store().keys.remote(_bytes(namespace), _bytes(prefix))))


def _bytes(text: Text | None) -> bytes:
    if text is None:
        return _DEFAULT
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"keys, values and namespaces are str or bytes, not {type(text).__name__}")


def _store() -> Any:
    return _Store.options(  # type: ignore[attr-defined]
        name="internal_kv", namespace="_orchestrator", get_if_exists=True, lifetime="detached", num_cpus=0
    ).remote()


@remote
class _Store:
    def __init__(self) -> None:
        self._spaces: dict[bytes, dict[bytes, bytes]] = {}

    def read(self, space: bytes, key: bytes) -> bytes | None:
        return self._spaces.get(space, {}).get(key)

    def write(self, space: bytes, key: bytes, value: bytes, overwrite: bool) -> bool:
        values = self._spaces.setdefault(space, {})
        existed = key in values
        if overwrite or not existed:
            values[key] = value
        return existed

    def delete(self, space: bytes, key: bytes, by_prefix: bool) -> int:
        values = self._spaces.get(space, {})
        doomed = (
            [one for one in values if one.startswith(key)] if by_prefix else [key] if key in values else []
        )
        for one in doomed:
            del values[one]
        return len(doomed)

    def keys(self, space: bytes, prefix: bytes) -> list[bytes]:
        return sorted(key for key in self._spaces.get(space, {}) if key.startswith(prefix))
