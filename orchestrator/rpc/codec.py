"""NamedTuples to protobuf messages of the same name and fields, and back.

What is to be converted follows from the type hints of the NamedTuple, looked at once for each class:

================== =====================================
hint               field
================== =====================================
str bytes bool     the same
int float          of a number
ResourceSet        a message with the map `units`
dict[str, X]       map<string, X>
tuple[X, ...]      repeated X
a NamedTuple       a message
X | None           optional X
================== =====================================

A message with one `oneof` called `kind` stands for a union: `Union` picks the field by the class's name in
snake case (`PrepareBundles` is `prepare_bundles`).
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.common.resources import ResourceSet

Put = Callable[[Any, str, Any], None]
Take = Callable[[Any, str], Any]


class UnknownMessage(ValueError):
    """A message of a kind that this version does not know; the text says which."""


def snake_case(name: str) -> str:
    """Return `PrepareBundles` as `prepare_bundles`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Struct:
    """The fields of one NamedTuple, and how each is put into a message and taken out of one."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        hints = typing.get_type_hints(cls)
        self.fields: list[tuple[str, Put, Take]] = [
            (name, *_converters(hints[name])) for name in getattr(cls, "_fields", ())
        ]

    def write(self, value: Any, message: Any) -> None:
        """Put a value into an empty message."""
        for (name, put, _), item in zip(self.fields, value, strict=True):
            put(message, name, item)

    def read(self, message: Any) -> Any:
        """Return the value that a message holds."""
        return self.cls(*[take(message, name) for name, _, take in self.fields])


_STRUCTS: dict[type, Struct] = {}


def struct_of(cls: type) -> Struct:
    """Return the converters of a class."""
    found = _STRUCTS.get(cls)
    if found is None:
        found = _STRUCTS[cls] = Struct(cls)
    return found


def _put_plain(message: Any, name: str, value: Any) -> None:
    setattr(message, name, value)


def _take_plain(message: Any, name: str) -> Any:
    return getattr(message, name)


def _put_optional(message: Any, name: str, value: Any) -> None:
    if value is not None:
        setattr(message, name, value)


def _take_optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _write_resources(value: ResourceSet, message: Any) -> None:
    units = message.units
    for name in value:
        units[name] = value[name]


def _read_resources(message: Any) -> ResourceSet:
    return ResourceSet(dict(message.units))


def _is_named_tuple(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _message_converters(hint: Any) -> tuple[Callable[[Any, Any], None], Callable[[Any], Any]] | None:
    """Return (write into a message, read from one) for what is a message of its own."""
    if hint is ResourceSet:
        return _write_resources, _read_resources
    if _is_named_tuple(hint):
        struct = struct_of(hint)
        return struct.write, struct.read
    return None


def _converters(hint: Any) -> tuple[Put, Take]:
    if hint in (str, bytes, bool, int, float):
        return _put_plain, _take_plain
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments:
        return _put_optional, _take_optional
    if origin is dict:
        return (
            lambda message, name, value: getattr(message, name).update(value),
            lambda message, name: dict(getattr(message, name)),
        )
    if origin is tuple:
        inner = _message_converters(arguments[0])
        if inner is None:
            return (
                lambda message, name, value: getattr(message, name).extend(value),
                lambda message, name: tuple(getattr(message, name)),
            )
        write_one, read_one = inner

        def put(message: Any, name: str, value: Iterable[Any]) -> None:
            items = getattr(message, name)
            for item in value:
                write_one(item, items.add())

        return put, lambda message, name: tuple([read_one(item) for item in getattr(message, name)])
    inner = _message_converters(hint)
    assert inner is not None, f"no converter for {hint}"
    write, read = inner

    def put_message(message: Any, name: str, value: Any) -> None:
        target = getattr(message, name)
        target.SetInParent()
        write(value, target)

    return put_message, lambda message, name: read(getattr(message, name))


class Union:
    """One message class with a `oneof kind`, and the NamedTuples it may hold."""

    def __init__(self, union: Any, message_class: Any) -> None:
        self._message_class = message_class
        self._by_class = {cls: (snake_case(cls.__name__), struct_of(cls)) for cls in typing.get_args(union)}
        self._by_field = dict(self._by_class.values())

    def put(self, value: Any, message: Any = None) -> Any:
        """Return a message that holds `value`, or put it into the one given."""
        if message is None:
            message = self._message_class()
        field, struct = self._by_class[type(value)]
        target = getattr(message, field)
        target.SetInParent()
        struct.write(value, target)
        return message

    def take(self, message: Any) -> Any:
        """Return the value that a message holds.

        Raises:
            UnknownMessage: none, or one of a newer version's.
        """
        field = message.WhichOneof("kind")
        struct = self._by_field.get(field)
        if struct is None:
            raise UnknownMessage(f"a {self._message_class.DESCRIPTOR.name} of a kind that is not known here")
        return struct.read(getattr(message, field))
