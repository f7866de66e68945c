"""Which part of a value can't be pickled, and how one gets there.

The pickler's own error says what the culprit is ("cannot pickle '_thread.lock' object") but not where it
sits. Here the value is walked from the outside: of the parts of something that can't be pickled, the first
one that can't be either is entered, until one has no such part. What the parts are is asked of the value
itself (``__reduce_ex__``), so that the walk sees what the pickler saw.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["find_culprit", "parts"]

#: picklings tried until the search gives up and names the place it has reached: some tenths of a second
_TRIALS_MAX = 4000

#: picklings of parts each cost as much as their size, so a deep value costs depth times size
_DEPTH_MAX = 60


def find_culprit(value: Any, name: str, try_to_pickle: Callable[[Any], Exception | None]) -> str:
    """The path to the culprit in ``value``, called ``name``: ``"value['a'].pool → _thread.lock"``.

    ``try_to_pickle`` returns the error that pickling its argument raises, or None.
    """
    path, current = name, value
    seen = {id(value)}
    trials = 0
    for _ in range(_DEPTH_MAX):
        for place, part in parts(current):
            if id(part) in seen or type(part) in _HARMLESS:
                continue
            trials += 1
            if trials > _TRIALS_MAX:
                return f"{path} → {_describe(current)}"
            if try_to_pickle(part) is not None:
                seen.add(id(part))
                path, current = path + place, part
                break
        else:
            break
    return f"{path} → {_describe(current)}"


_HARMLESS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


def _describe(value: Any) -> str:
    """What the culprit is: the name of a class or function, else the name of its type."""
    if isinstance(value, types.FunctionType):
        return _function_name(value)
    if isinstance(value, type):
        return f"class {_qualified(value)}"
    return _qualified(type(value))


def _qualified(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _function_name(function: types.FunctionType) -> str:
    code = function.__code__
    return f"{function.__qualname__} (defined at {code.co_filename}:{code.co_firstlineno})"


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of ``value`` that pickling it would pickle, each with its place. Never raises."""
    try:
        if type(value) is dict:
            yield from _dict_parts(value)
        elif type(value) in (list, tuple):
            yield from ((f"[{index}]", item) for index, item in enumerate(value))
        elif type(value) in (set, frozenset):
            yield from (("{...}", item) for item in value)
        elif isinstance(value, types.FunctionType):
            yield from _function_parts(value)
        elif isinstance(value, types.MethodType):
            yield from ((".__self__", value.__self__), (".__func__", value.__func__))
        elif isinstance(value, functools.partial):
            yield ".func", value.func
            yield from ((f".args[{index}]", item) for index, item in enumerate(value.args))
            yield from ((f".keywords[{key!r}]", item) for key, item in value.keywords.items())
        elif isinstance(value, type):
            yield from ((f".{key}", _plain_function(item)) for key, item in vars(value).items())
        else:
            yield from _instance_parts(value)
    except Exception:
        # The value's own code failed to say what it consists of: then it is the culprit as a whole.
        return


def _dict_parts(value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if type(key) not in _HARMLESS:
            yield f" → key {_short(key)}", key
        yield f"[{_short(key)}]", item


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What travels with a function by value: closure, defaults, attributes and the globals it names."""
    whose = f"of {_function_name(function)}"
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" → closure variable {variable!r} {whose}", cell.cell_contents
        except ValueError:  # an empty cell: the variable isn't assigned yet
            continue
    code = function.__code__
    with_default = code.co_varnames[: code.co_argcount][-len(function.__defaults__ or ()) :]
    for parameter, item in zip(with_default, function.__defaults__ or (), strict=False):
        yield f" → default of {parameter!r} {whose}", item
    for parameter, item in (function.__kwdefaults__ or {}).items():
        yield f" → default of {parameter!r} {whose}", item
    for variable in sorted(_global_names(code)):
        if variable in function.__globals__:
            yield f" → global variable {variable!r} {whose}", function.__globals__[variable]
    for attribute, item in vars(function).items():
        yield f" → attribute {attribute!r} {whose}", item


def _global_names(code: types.CodeType) -> set[str]:
    """Names that the code, or a function nested in it, may look up in its globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _plain_function(member: Any) -> Any:
    """The function inside a classmethod or staticmethod; anything else as it is."""
    return member.__func__ if isinstance(member, (classmethod, staticmethod)) else member


def _instance_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What ``__reduce_ex__`` says ``value`` consists of."""
    reduced = value.__reduce_ex__(4)
    if not isinstance(reduced, tuple):
        return
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if state is not None:
        yield from _state_parts(state)
    yield from ((f"[{index}]", item) for index, item in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", item) for key, item in pairs or ())
    if getattr(function, "__name__", "") == "__newobj__" and arguments:
        # copyreg's way to make an instance: the first argument is the class
        yield ".__class__", arguments[0]
    yield ".__reduce__()[0]", function
    yield from ((f".__reduce__()[1][{index}]", item) for index, item in enumerate(arguments))


def _state_parts(state: Any) -> Iterator[tuple[str, Any]]:
    """A state is a dict of attributes, or that and a dict of slots, or whatever ``__getstate__`` likes."""
    if (
        isinstance(state, tuple)
        and len(state) == 2
        and all(part is None or type(part) is dict for part in state)
    ):
        for part in state:
            yield from _state_parts(part or {})
    elif type(state) is dict and all(type(key) is str for key in state):
        yield from ((f".{key}", item) for key, item in state.items())
    else:
        yield ".__getstate__()", state


def _short(key: Any) -> str:
    """A key's repr, bounded; a repr that fails is replaced by its type."""
    try:
        text = repr(key)
    except Exception:
        return f"<{type(key).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."
