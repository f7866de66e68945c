"""Settings that come from the environment, read when a session starts and not before.

Each has a name of ours, `ORCHESTRATOR_<name>`, and where Ray has the same setting, `RAY_<name>` is
understood too: what is set for a program must not be lost with the change of an import. An address is the
exception: `RAY_ADDRESS` names a cluster that cannot be joined from here.
"""

from __future__ import annotations

import os

_FALSE = frozenset({"0", "false", "no", "off", ""})


def setting(name: str) -> str | None:
    """Return the value of a setting; None when it is not set."""
    for variable in (f"ORCHESTRATOR_{name}", f"RAY_{name}", f"RAY_{name.lower()}"):
        if variable in os.environ:
            return os.environ[variable]
    return None


def flag(name: str, default: bool) -> bool:
    """Return a setting that is on or off."""
    value = setting(name)
    return default if value is None else value.strip().lower() not in _FALSE


def number(name: str, default: float) -> float:
    """Return a setting that is a number.

    Raises:
        ValueError: it is something else.
    """
    value = setting(name)
    try:
        return default if value is None else float(value)
    except ValueError:
        text = f"the environment variable ORCHESTRATOR_{name} must be a number, not {value!r}"
        raise ValueError(text) from None
