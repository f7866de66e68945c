"""Which calls a function accepts, checked before it travels.

A wrong call must raise TypeError in the caller, at once, and the check is on the path of every
task; `inspect.Signature.bind` takes longer than all the rest of a submission. So a shape keeps
a few numbers for the common case, and does it by the book only when they do not decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_VARARGS = 0x04
_VARKEYWORDS = 0x08


class CallShape:
    """The parameters of a function, as far as a call's form depends on them. Picklable."""

    __slots__ = (
        "accepts_any_keyword",
        "high",
        "keyword_only",
        "low",
        "name",
        "names",
        "positional_only",
        "required",
    )

    def __init__(
        self,
        name: str,
        names: tuple[str, ...],
        positional_only: int,
        required: int,
        has_varargs: bool,
        keyword_only: dict[str, bool],
        has_varkeywords: bool,
    ) -> None:
        self.name = name
        #: positional parameters: the first `positional_only` cannot be given by name, the first
        #: `required` must be given
        self.names = names
        self.positional_only = positional_only
        self.required = required
        #: name to whether it is required
        self.keyword_only = keyword_only
        self.accepts_any_keyword = has_varkeywords
        #: a call with between `low` and `high` positional and no keyword arguments is right
        self.low = required if not any(keyword_only.values()) else 1 << 30
        self.high = (1 << 30) - 1 if has_varargs else len(names)

    @classmethod
    def of(cls, function: Callable[..., Any], skip_first: bool = False) -> CallShape | None:
        """Return the shape of a function; None when it does not tell (some C functions)."""
        code = getattr(function, "__code__", None)
        if code is None or hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
            return cls._by_signature(function, skip_first)
        count = code.co_argcount
        names = code.co_varnames[:count]
        required = count - len(function.__defaults__ or ())
        kw_defaults = function.__kwdefaults__ or {}
        keyword_only = {
            name: name not in kw_defaults for name in code.co_varnames[count : count + code.co_kwonlyargcount]
        }
        positional_only = code.co_posonlyargcount
        if skip_first and names:
            names, required, positional_only = names[1:], max(0, required - 1), max(0, positional_only - 1)
        return cls(
            function.__qualname__,
            names,
            positional_only,
            required,
            bool(code.co_flags & _VARARGS),
            keyword_only,
            bool(code.co_flags & _VARKEYWORDS),
        )

    @classmethod
    def _by_signature(cls, function: Callable[..., Any], skip_first: bool) -> CallShape | None:
        import inspect

        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return None
        if skip_first and parameters and parameters[0].kind < inspect.Parameter.VAR_POSITIONAL:
            parameters = parameters[1:]
        plain = [p for p in parameters if p.kind < inspect.Parameter.VAR_POSITIONAL]
        return cls(
            getattr(function, "__qualname__", type(function).__name__),
            tuple(p.name for p in plain),
            sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in plain),
            sum(p.default is inspect.Parameter.empty for p in plain),
            any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters),
            {
                p.name: p.default is inspect.Parameter.empty
                for p in parameters
                if p.kind is inspect.Parameter.KEYWORD_ONLY
            },
            any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
        )

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError, worded as Python words it, unless the function accepts this call."""
        given = len(args)
        if not kwargs and self.low <= given <= self.high:
            return
        if given > self.high:
            raise TypeError(
                f"{self.name}() takes {len(self.names)} positional argument{'s' * (len(self.names) != 1)} "
                f"but {given} {'was' if given == 1 else 'were'} given"
            )
        by_name = self.names[self.positional_only :]
        for name in kwargs:
            if name in by_name:
                if self.names.index(name) < given:
                    raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
            elif name not in self.keyword_only and not self.accepts_any_keyword:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
        missing = [
            name
            for index, name in enumerate(self.names[: self.required])
            if index >= given and (index < self.positional_only or name not in kwargs)
        ]
        if missing:
            self._refuse(missing, "positional")
        missing = [name for name, needed in self.keyword_only.items() if needed and name not in kwargs]
        if missing:
            self._refuse(missing, "keyword-only")

    def _refuse(self, missing: list[str], kind: str) -> None:
        plural = "s" * (len(missing) != 1)
        names = ", ".join(map(repr, missing))
        raise TypeError(f"{self.name}() missing {len(missing)} required {kind} argument{plural}: {names}")
