"""The `remote` decorator."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar, overload

from orchestrator.api.actor_class import make_actor_class
from orchestrator.api.remote_function import P, R, RemoteFunction
from orchestrator.common import options as option_rules
from orchestrator.common.options import ACTOR, TASK
from orchestrator.core.generators import ObjectRefGenerator
from orchestrator.core.object_ref import ObjectRef

T = TypeVar("T")


class Decorator(Protocol):
    """What `remote` with options returns."""

    @overload
    def __call__(self, target: type, /) -> Any: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, target: Callable[P, Iterator[T]], /
    ) -> RemoteFunction[P, Iterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, target: Callable[P, AsyncIterator[T]], /
    ) -> RemoteFunction[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, T]], /
    ) -> RemoteFunction[P, Coroutine[Any, Any, T], ObjectRef[T]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R, ObjectRef[R]]: ...


class ReturnsDecorator(Protocol):
    """What `remote` with `num_returns` among its options returns: the number decides what a call gives."""

    @overload
    def __call__(self, target: type, /) -> Any: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R, Any]: ...


@overload
def remote(function: type, /) -> Any: ...
@overload
def remote(  # type: ignore[overload-overlap]
    function: Callable[P, Iterator[T]], /
) -> RemoteFunction[P, Iterator[T], ObjectRefGenerator[T]]: ...
@overload
def remote(  # type: ignore[overload-overlap]
    function: Callable[P, AsyncIterator[T]], /
) -> RemoteFunction[P, AsyncIterator[T], ObjectRefGenerator[T]]: ...
@overload
def remote(
    function: Callable[P, Coroutine[Any, Any, T]], /
) -> RemoteFunction[P, Coroutine[Any, Any, T], ObjectRef[T]]: ...
@overload
def remote(function: Callable[P, R], /) -> RemoteFunction[P, R, ObjectRef[R]]: ...
@overload
def remote(*, num_returns: int | str, **options: Any) -> ReturnsDecorator: ...
@overload
def remote(**options: Any) -> Decorator: ...
def remote(*args: Any, **options: Any) -> Any:
    """Make a function remote, or a class an actor class.

    Plain `@remote`, or with options: `@remote(num_cpus=2, max_retries=0)`.

    Raises:
        TypeError: not a function or class, or options given by position.
        ValueError: an unknown option (the text lists the valid ones), or a value out of range.
    """
    if (
        len(args) == 1
        and not options
        and (callable(args[0]) or isinstance(args[0], (classmethod, staticmethod)))
    ):
        return _decorate(args[0], {})
    if args:
        raise TypeError(
            "use @remote, or @remote(option=value, ...) with options by name. Options of tasks: "
            f"{', '.join(option_rules.valid_names(TASK))}. Options of actors: "
            f"{', '.join(option_rules.valid_names(ACTOR))}"
        )
    if not options:
        raise TypeError("use @remote without parentheses when there are no options")
    known = {*option_rules.valid_names(TASK), *option_rules.valid_names(ACTOR)}
    for name in options:
        if option_rules.ALIASES.get(name, name) not in known:
            raise ValueError(f"{name!r} is not an option. Valid options: {', '.join(sorted(known))}")
    return lambda target: _decorate(target, options)


def _decorate(target: Any, options: dict[str, Any]) -> Any:
    if isinstance(target, type):
        return make_actor_class(target, option_rules.merge(ACTOR, {}, options))
    if isinstance(target, RemoteFunction):
        raise TypeError(f"{target!r} is a remote function already; use .options(...)")
    is_function = isinstance(target, (types.FunctionType, types.BuiltinFunctionType))
    if not is_function and type(target).__name__ not in (
        "cython_function_or_method",
        "_lru_cache_wrapper",
        "ufunc",
    ):
        raise TypeError(f"remote() takes a function or a class, not {type(target).__name__}")
    return RemoteFunction(target, option_rules.merge(TASK, {}, options))
