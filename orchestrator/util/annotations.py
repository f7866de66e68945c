"""Decorators that say how stable an interface is: in its docstring, and nowhere else.

This package does not use them itself; libraries written for Ray put them on their own classes and functions.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

STABILITIES = ("stable", "beta", "alpha")
_MAY_GO = "This API is deprecated and may be removed in a future release."


class RayDeprecationWarning(DeprecationWarning):
    """Something is used that `Deprecated(warning=True)` is about."""


@overload
def PublicAPI(target: T, /) -> T: ...
@overload
def PublicAPI(*, stability: str = "stable", api_group: str = "Others") -> Callable[[T], T]: ...
def PublicAPI(*targets: Any, stability: str = "stable", api_group: str = "Others") -> Any:
    """Mark what users may rely on: `@PublicAPI`, or `@PublicAPI(stability="alpha")` for what may change.

    Args:
        targets: what is decorated, without parentheses.
        stability: "stable", "beta" or "alpha".
        api_group: has no effect: under which heading documentation shows it.

    Raises:
        ValueError: another stability.
    """
    if stability not in STABILITIES:
        raise ValueError(f"stability must be one of {', '.join(STABILITIES)}, not {stability!r}")
    note = f"**PublicAPI ({stability}):** this API is in {stability} and may change before it is stable."
    return _marker(targets, "" if stability == "stable" else note)


@overload
def DeveloperAPI(target: T, /) -> T: ...
@overload
def DeveloperAPI() -> Callable[[T], T]: ...
def DeveloperAPI(*targets: Any) -> Any:
    """Mark what authors of libraries may use, and which may change: `@DeveloperAPI` or `@DeveloperAPI()`."""
    return _marker(targets, "**DeveloperAPI:** this API may change between minor releases.")


@overload
def Deprecated(target: T, /) -> T: ...
@overload
def Deprecated(*, message: str = "", warning: bool = False) -> Callable[[T], T]: ...
def Deprecated(*targets: Any, message: str = "", warning: bool = False) -> Any:
    """Mark what may be removed: `@Deprecated`, or `@Deprecated(message="use g", warning=True)`.

    Args:
        targets: what is decorated, without parentheses.
        message: what to do instead.
        warning: give a `RayDeprecationWarning` at each use, which is a call, or the making of an instance.
    """
    text = f"{_MAY_GO}\n{message}".rstrip()
    mark = _marker((), f"**DEPRECATED:** {text}")

    def decorate(target: Any) -> Any:
        mark(target)
        return _warning(target, text) if warning else target

    return decorate(*targets) if targets else decorate


def _marker(targets: tuple[Any, ...], note: str) -> Any:
    def decorate(target: T) -> T:
        if note:
            indented = note.replace("\n", "\n    ")
            doc = (inspect.getdoc(target) if getattr(target, "__doc__", None) else None) or ""
            try:
                target.__doc__ = f"{doc}\n\n{indented}".lstrip()
            except AttributeError:
                pass  # its docstring cannot be changed, as that of a builtin
        return target

    return decorate(*targets) if targets else decorate


def _warning(target: Any, text: str) -> Any:
    """Return what gives the warning whenever it is called; a class is changed, and stays itself."""
    is_class = isinstance(target, type)
    function = target.__init__ if is_class else target

    @functools.wraps(function)
    def warn(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(text, RayDeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    if not is_class:
        return warn
    target.__init__ = warn
    return target


__all__ = ["STABILITIES", "Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"]
