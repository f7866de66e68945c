"""What the parts of a runtime have in common: they end with the session, whoever is using them then."""

from __future__ import annotations

import functools
from typing import Any

from orchestrator import exceptions


class Part:
    """Loses its attributes when the session ends; a thread that is in the middle of a call hears why.

    What it hears is said by a `__getattr__` that a part has only then: the interpreter's caches know no
    attributes of a class that has one, and a call would take a third longer.
    """

    def end(self) -> None:
        """From now on, an attribute that is not there any more is so because the session is over."""
        self.__class__ = _ended(type(self))  # type: ignore[assignment,arg-type]

    def lose_all(self) -> None:
        """End, and let go of everything."""
        self.end()
        vars(self).clear()


@functools.cache
def _ended(cls: type[Part]) -> type[Part]:
    return type(cls.__name__, (cls,), {"__getattr__": _session_is_over})


def _session_is_over(self: Part, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise exceptions.SessionError("this session is over")
