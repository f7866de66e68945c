"""NamedTuples as JSON for the storage: readable with any tool, and open to new fields.

A field that a stored record lacks has its default; one that is not known here is dropped. Bytes are in
base64.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from typing import Any, TypeVar

from orchestrator.common.resources import ResourceSet

T = TypeVar("T")


def dump(record: Any) -> bytes:
    """Return a NamedTuple as JSON."""
    return json.dumps(_plain(record), separators=(",", ":")).encode()


def load(cls: type[T], data: bytes) -> T:
    """Return the NamedTuple again.

    Raises:
        ValueError, TypeError, KeyError: it was written by something else.
    """
    value: T = _value(cls, json.loads(data))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, ResourceSet):
        return {name: value[name] for name in value}
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is not None:
            return {name: _plain(item) for name, item in zip(fields, value, strict=True)}
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(cls: type) -> dict[str, Any]:
    found = _HINTS.get(cls)
    if found is None:
        found = _HINTS[cls] = typing.get_type_hints(cls)
    return found


def _value(hint: Any, plain: Any) -> Any:
    if hint is bytes:
        return base64.b64decode(plain)
    if hint is ResourceSet:
        return ResourceSet(plain)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return hint(**{name: _value(h, plain[name]) for name, h in _hints(hint).items() if name in plain})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return tuple(_value(arguments[0], item) for item in plain)
    if origin is dict:
        return {name: _value(arguments[1], item) for name, item in plain.items()}
    if origin in (typing.Union, types.UnionType) and plain is not None:
        return _value(arguments[0], plain)
    return plain
