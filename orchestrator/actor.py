"""Actors: the names that a program imports from here."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, Union

from orchestrator.api.actor_class import ActorOptions, is_actor_class, method
from orchestrator.api.actor_handle import ActorHandle, ActorMethod
from orchestrator.api.context import exit_actor

T = TypeVar("T")


class _OfActorClasses(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return is_actor_class(instance)


class ActorClass(Generic[T], metaclass=_OfActorClasses):
    """For annotations, `ActorClass[Counter]`, and `isinstance`: what `@remote` makes of a class.

    That is the class itself here, so nothing else has this class.
    """

    def __init__(self) -> None:
        raise TypeError("actor classes are made by @remote")


#: For annotations: a handle of an actor of class T, `ActorProxy[Counter]`.
ActorProxy = Union[ActorHandle, type[T]]  # noqa: UP007 - `|` does not take the parameter in Python 3.10

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "ActorOptions",
    "ActorProxy",
    "exit_actor",
    "method",
]
