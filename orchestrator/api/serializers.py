"""Serializers that a program brings for its own classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.objects import plasma_adapter as objects

T = TypeVar("T")


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """Have instances of exactly this class stored as what `serializer` makes of them, in this process.

    Whoever reads one calls `deserializer`, which travels with it. Other processes that store instances
    register for themselves. Registering again replaces what was registered before.

    Args:
        cls: the class; subclasses are not meant.
        serializer: makes something that can be pickled of an instance.
        deserializer: makes an instance of that again.

    Raises:
        TypeError: not a class, a builtin one, or something that cannot be called.
    """
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(
                f"register_serializer({name}=...) takes a function, not {type(function).__name__}"
            )
    objects.register(cls, lambda value: (deserializer, (serializer(value),)))


def deregister_serializer(cls: type) -> None:
    """Take back what `register_serializer` did in this process; harmless if there is nothing."""
    objects.deregister(cls)
