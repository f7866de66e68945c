"""Control messages as they come in: JSON from processes that run user code, so nothing about them is
believed.

A message is an object with the field "op". `FIELDS` says which other fields an op has and of which kind;
anything else raises `BadMessage`, which the node writes down, counts, and survives. Unknown fields are
ignored, so that newer clients may say more.
"""

from __future__ import annotations

import json
import math
from typing import Any

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import Placement, placement_from_message


class BadMessage(ValueError):
    """A control message that the node does not understand; the text says why."""

    #: The number of the request that it would have been, so that whoever waits for an answer gets one.
    request: int | None = None


def _call_or_none(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise BadMessage("is not a pair of an address and a number")
    return _integer(value[0]), _integer(value[1])


def _calls(value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list):
        raise BadMessage("is not a list")
    return tuple(call for item in value if (call := _call_or_none(item)) is not None)


_HEXADECIMAL = frozenset("0123456789abcdef")

#: Workers wanted at one time; beyond it a number is meant as "very many".
WANT_MAX = 1_000_000


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadMessage("is not a text")
    return value


def _environment(value: Any) -> str:
    if not isinstance(value, str) or not (value.isalnum() or not value):
        raise BadMessage("is not the key of a runtime environment")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise BadMessage("is not a list")
    return [_text(item) for item in value]


def _words(value: Any) -> tuple[str, ...]:
    return tuple(_texts(value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage("is not an object")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _object_id_or_none(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and len(value) == 32 and set(value) <= _HEXADECIMAL):
        return value
    raise BadMessage("is not the id of an object")


def _object_id(value: Any) -> bytes:
    if value is None:
        raise BadMessage("is not the id of an object")
    return bytes.fromhex(_object_id_or_none(value) or "")


def _object_ids(value: Any) -> list[bytes]:
    return [_object_id(item) for item in _texts(value)]


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadMessage("is not an integer >= 0")
    return value


def _restarts(value: Any) -> int:
    return -1 if value == -1 and type(value) is int else _integer(value)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise BadMessage("is not a number of seconds >= 0")
    return float(value)


def _want(value: Any) -> int:
    return min(_integer(value), WANT_MAX)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadMessage("is neither true nor false")
    return value


def _class_key(value: Any) -> int | str:
    if type(value) is not int and not isinstance(value, str):
        raise BadMessage("is neither a text nor an integer")
    return value


def _resources(value: Any) -> ResourceSet:
    if not isinstance(value, dict):
        raise BadMessage("is not an object")
    for quantity in value.values():
        if type(quantity) not in (int, float) or not math.isfinite(quantity):
            raise BadMessage(f"has the quantity {quantity!r}")
    try:
        return ResourceSet.from_floats(value)
    except (ValueError, OverflowError) as exc:
        raise BadMessage(str(exc)) from None


def _placement(value: Any) -> Placement | None:
    try:
        return placement_from_message(value)
    except ValueError as exc:
        raise BadMessage(str(exc)) from None


def _signed(value: Any) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise BadMessage("is not an integer of 32 bits")
    return value


def _bundles(value: Any) -> tuple[ResourceSet, ...]:
    if not isinstance(value, list) or not value:
        raise BadMessage("is not a list of bundles")
    bundles = tuple(map(_resources, value))
    if not all(bundles):
        raise BadMessage("has an empty bundle")
    return bundles


def _selectors(value: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadMessage("is not a list of conditions on labels")
    return tuple({_text(key): _text(condition) for key, condition in one.items()} for one in value)


#: What a `SchedulingClass` has beside its resources.
_CLASS_FIELDS: dict[str, Any] = {
    "env": (_environment, ""),
    "placement": (_placement, None),
    "priority": (_signed, 0),
    "retriable": (_flag, True),
}

#: Fields of each op. A pair (kind, default) is one that may be left out.
FIELDS: dict[str, dict[str, Any]] = {
    "ready": {"token": _integer, "pid": _integer},
    "attach": {
        "ticket": _text,
        "namespace": _text,
        "is_anonymous": (_flag, False),
        "pid": _integer,
        "argv": (_words, ()),
        "path": _texts,
        "cwd": _text,
        "main": (_text_or_none, None),
        "logging": (_object, {}),
        "shows_lines": (_flag, True),
        "observes": (_flag, False),
        "req": _integer,
    },
    "detach": {"req": _integer},
    "lease": {
        "class": _class_key,
        "resources": _resources,
        **_CLASS_FIELDS,
        "want": _want,
        "near": (_integer, 0),
    },
    "return": {"worker": _integer},
    "pool": {"env": _environment},
    "blocked": {},
    "waiting": {
        "wait": _integer,
        "name": (_text, ""),
        "run": (_call_or_none, None),
        "calls": _calls,
        "confirms": (_flag, False),
    },
    "unblocked": {},
    "retired": {},
    "create_actor": {
        "actor": _text,
        "name": (_text_or_none, None),
        "namespace": (_text, ""),
        "class_name": (_text, ""),
        "resources": _resources,
        **_CLASS_FIELDS,
        "hold": _resources,
        "get_if_exists": (_flag, False),
        "handle": (_text, ""),
        "detached": (_flag, False),
        "max_restarts": (_restarts, 0),
        "has_hook": (_flag, False),
        "constructor": (_object_id_or_none, None),
        "job": (_environment, ""),
        "req": _integer,
    },
    "actor_state": {
        "actor": _text,
        "state": _text,
        "cause": (_text_or_none, None),
        "init_failed": (_flag, False),
        "label": (_text, ""),
    },
    "resolve_actor": {"actor": _text},
    "get_actor": {"name": _text, "namespace": (_text, ""), "req": _integer},
    "kill_actor": {"actor": _text, "no_restart": (_flag, True), "reason": (_text, "killed")},
    "kill_worker": {"worker": _integer, "reason": (_text, "killed")},
    "list_actors": {"node": (_text, ""), "skip": (_integer, 0), "req": _integer},
    "name_object": {"name": _text, "namespace": _text, "object": _object_id, "req": _integer},
    "find_object": {"name": _text, "namespace": _text, "req": _integer},
    "forget_object": {"name": _text, "namespace": _text, "req": _integer},
    "list_named_objects": {"namespace": (_text_or_none, None), "skip": (_integer, 0), "req": _integer},
    "end_actors": {"req": _integer},
    "list_names": {"namespace": (_text_or_none, None), "skip": (_integer, 0), "req": _integer},
    "create_group": {
        "group": _text,
        "name": (_text, ""),
        "namespace": (_text, ""),
        "strategy": _text,
        "bundles": _bundles,
        "selectors": (_selectors, ()),
        "detached": (_flag, False),
        "req": (_integer, 0),
    },
    "remove_group": {"group": _text},
    "await_group": {"group": _text, "req": _integer},
    "get_group": {"name": _text, "namespace": (_text, ""), "req": _integer},
    "list_jobs": {"skip": (_integer, 0), "req": _integer},
    "list_groups": {"group": (_text_or_none, None), "req": _integer},
    "locate": {"objects": _object_ids, "req": _integer},
    "entrust": {"actor": _text, "object": _object_id},
    "borrow": {"object": _object_id},
    "want": {"object": _object_id, "priority": (_integer, 0)},
    "gave": {"object": _object_id, "owner": _integer, "size": _integer},
    "assignment": {"req": _integer},
    "resources": {"node": (_text, ""), "req": _integer},
    "processes": {"timeout_s": (_seconds, 5.0), "req": _integer},
    "drain": {"node": _text, "grace_s": _seconds, "req": _integer},
    "wish": {"key": _text, "value": _text, "req": _integer},
    "instances": {"req": _integer},
    "shutdown": {},
}


def decode(payload: bytes) -> tuple[str, dict[str, Any]]:
    """Return the op and its fields, all present and of their kind.

    Raises:
        BadMessage: it is not that.
    """
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise BadMessage(f"not JSON: {exc}") from None
    if not isinstance(message, dict):
        raise BadMessage("not an object")
    op = message.get("op")
    try:
        if not isinstance(op, str) or op not in FIELDS:
            raise BadMessage(f"unknown op {repr(op)[:100]}")
        return op, _fields(op, message)
    except BadMessage as exc:
        request = message.get("req")
        exc.request = request if type(request) is int else None
        raise


def _fields(op: str, message: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, kind in FIELDS[op].items():
        if isinstance(kind, tuple):
            kind, default = kind
            if name not in message:
                values[name] = default
                continue
        elif name not in message:
            raise BadMessage(f"{op}: {name!r} is missing")
        try:
            values[name] = kind(message[name])
        except BadMessage as exc:
            raise BadMessage(f"{op}: {name!r} {exc}") from None
    return values
