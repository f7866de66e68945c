"""Labels of nodes, and conditions on them.

========== ==========================================
condition  matches a node whose label
========== ==========================================
`v`        is v
`!v`       is not v, or that has none
`in(a,b)`  is one of these
`!in(a,b)` is none of these, or that has none
========== ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Labels that the runtime sets itself begin with this.
RESERVED = "ray.io/"

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(f"(?:{_NAME})?")
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_CONDITION = re.compile(r"(!?)(?:in\(([^()]*)\)|([^()!,]*))")


def check_labels(labels: Mapping[str, str], what: str = "labels") -> dict[str, str]:
    """Return labels of a node as a dict.

    Raises:
        TypeError: a key or a value is no text.
        ValueError: one is not of the form of a label, or a key is reserved.
    """
    _check_texts(labels, what)
    for key, value in labels.items():
        _check_key(key, what)
        if key.startswith(RESERVED):
            raise ValueError(f"{what}: {key!r}: names that begin with {RESERVED!r} are set by the runtime")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{what}[{key!r}]: {value!r} is no label: {_FORM}")
    return dict(labels)


_FORM = "up to 63 letters, digits, '-', '_' and '.', the first and the last a letter or a digit"


def _check_texts(labels: Mapping[str, str], what: str) -> None:
    if not isinstance(labels, Mapping):
        raise TypeError(f"{what} must be a dict of text to text, not {type(labels).__name__}")
    for text in (text for pair in labels.items() for text in pair):
        if not isinstance(text, str):
            raise TypeError(f"{what} must be a dict of text to text; {text!r} is none")


def _check_key(key: str, what: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{what}: {key!r} is no name of a label: {_FORM}; before it, optionally, 'prefix/'")


def check_selector(selector: Mapping[str, str], what: str = "label_selector") -> dict[str, str]:
    """Return conditions on labels as a dict.

    Raises:
        TypeError: a key or a value is no text.
        ValueError: one is not of the form of a condition.
    """
    _check_texts(selector, what)
    for key, condition in selector.items():
        _check_key(key, what)
        parse_condition(condition, f"{what}[{key!r}]")
    return dict(selector)


def parse_condition(condition: str, what: str) -> tuple[bool, frozenset[str]]:
    """Return (whether it is negated, the values it names).

    Raises:
        ValueError: it is not of the form of a condition; `what` says whose it is.
    """
    found = _CONDITION.fullmatch(condition.strip())
    values = [] if found is None else [value.strip() for value in (found[2] or found[3] or "").split(",")]
    if found is None or not all(_VALUE.fullmatch(value) for value in values) or (found[2] == ""):
        raise ValueError(f"{what}: {condition!r} is none of 'v', '!v', 'in(a,b)', '!in(a,b)'")
    return bool(found[1]), frozenset(values)


def matches(selector: Iterable[tuple[str, str]], labels: Mapping[str, str]) -> bool:
    """Tell whether a node with these labels meets every condition of a selector."""
    for key, condition in selector:
        negated, values = parse_condition(condition, key)
        if (labels.get(key) in values) == negated:
            return False
    return True
