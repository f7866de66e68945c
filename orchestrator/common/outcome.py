"""The outcome of running something: a value or an error, as one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Outcome(Generic[T]):
    """Either a value or the exception raised instead of it."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    @classmethod
    def of(cls, function: Callable[..., T], *args: Any, **kwargs: Any) -> Outcome[T]:
        """Call the function and keep whatever comes of it."""
        try:
            return cls(function(*args, **kwargs))
        except BaseException as error:
            return cls(error=error)

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]
