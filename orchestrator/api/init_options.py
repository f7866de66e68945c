"""The keywords of `init`, checked before anything is started.

All of Ray's are accepted by name. `_CHECKS` says what each takes. Those in `WITHOUT_EFFECT` have none, for
the reason beside them; those in `REFUSED` raise unless they ask for what is the case anyhow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.common.logging_config import LoggingConfig, check_level

#: Keyword without effect → the reason.
WITHOUT_EFFECT: dict[str, str] = {
    "dashboard_host": "there is no dashboard",
    "dashboard_port": "there is no dashboard",
    "proxy_server_url": "it is for a dashboard behind a proxy, and there is no dashboard",
    "_node_ip_address": "a session opens no port",
    "_node_name": "a session has one node",
    "_metrics_export_port": "a session opens no port",
    "_plasma_directory": "objects are in anonymous memory, which has no directory",
    "_redis_username": "there is no Redis",
    "_redis_password": "there is no Redis",
    "_redis_max_memory": "there is no Redis",
    "_tracing_startup_hook": "nothing is traced through it",
    "_system_config": "its names are those of Ray's internals",
    "_enable_object_reconstruction": "it is always on",
    "_cluster_id": "a session makes its own",
    "_skip_env_hook": "there is no such hook",
    "allow_multiple": "it is for clients of a cluster",
}

#: A store below the first has no room for the objects of its own runtime; addresses end at the second.
STORE_BYTES_MIN = 1 << 20
STORE_BYTES_MAX = 1 << 46

#: Keyword → (values that are the case anyhow, what to do instead).
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "local_mode": ((False, None), 'pass mode="inline" to run everything in this process'),
    "include_dashboard": ((False, None), "there is no dashboard; leave it out"),
    "job_config": ((None,), "pass runtime_env=, namespace= or logging_config= themselves"),
    "enable_resource_isolation": (
        (False, None),
        "limit the session from outside, by running its driver in a cgroup of its own",
    ),
    "cgroup_path": ((None,), "it belongs to enable_resource_isolation, which is not here"),
    "system_reserved_cpu": (
        (None,),
        "it belongs to enable_resource_isolation, which is not here; use num_cpus=",
    ),
    "system_reserved_memory": (
        (None,),
        "it belongs to enable_resource_isolation, which is not here; use object_store_memory=",
    ),
}


def _wrong(name: str, wanted: str, value: Any) -> TypeError:
    return TypeError(f"init({name}=...) takes {wanted}, not {type(value).__name__}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _wrong(name, "a str", value)
    if not value:
        raise ValueError(f"init({name}=...) must not be empty")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)


def _amount(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, "a number", value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"init({name}=...) must be a finite number >= 0, not {value!r}")


def _integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an int", value)
    if value < 0:
        raise ValueError(f"init({name}=...) must be >= 0, not {value}")


def _store_size(name: str, value: Any) -> None:
    _integer(name, value)
    if not STORE_BYTES_MIN <= value <= STORE_BYTES_MAX:
        raise ValueError(
            f"init({name}=...) is the size of the object store in bytes and must lie between "
            f"{STORE_BYTES_MIN} (1 MiB) and {STORE_BYTES_MAX} (64 TiB), not {value}"
        )


def _resources(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(name, "a dict of name to number", value)
    for key, amount in value.items():
        if not isinstance(key, str):
            raise TypeError(f"init({name}=...): names must be str, not {type(key).__name__}")
        if key in ("CPU", "GPU"):
            raise ValueError(f"init({name}=...): use num_cpus= or num_gpus= instead of {key!r}")
        _amount(f"{name}[{key!r}]", amount)


def _labels(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(name, "a dict of str to str", value)
    for key, label in value.items():
        if not isinstance(key, str) or not isinstance(label, str):
            raise TypeError(f"init({name}=...) takes a dict of str to str, and has {key!r}: {label!r}")


def _logging_config(name: str, value: Any) -> None:
    if not isinstance(value, LoggingConfig):
        raise _wrong(name, "a LoggingConfig", value)


def _runtime_env(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(name, "a dict or a RuntimeEnv", value)
    from orchestrator.common.runtime_env import RuntimeEnv

    RuntimeEnv.of(value)


def _anything(name: str, value: Any) -> None:
    """Accept the value: it has no effect."""


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "address": _text,
    "num_cpus": _amount,
    "num_gpus": _amount,
    "resources": _resources,
    "labels": _labels,
    "object_store_memory": _store_size,
    "ignore_reinit_error": _flag,
    "configure_logging": _flag,
    "logging_level": check_level,
    "logging_format": _text,
    "logging_config": _logging_config,
    "log_to_driver": _flag,
    "namespace": _text,
    "runtime_env": _runtime_env,
    "mode": _text,
    "object_spilling_directory": _text,
    "_temp_dir": _text,
    "_memory": _amount,
    **dict.fromkeys([*WITHOUT_EFFECT, *REFUSED], _anything),
}

#: Keywords that are not in the signature of `init`.
HIDDEN = frozenset(name for name in _CHECKS if name.startswith("_")) | {
    "allow_multiple",
    "object_spilling_directory",
}


def check(given: Mapping[str, Any]) -> None:
    """Check what `init` was called with.

    Raises:
        TypeError: an unknown keyword, with the one that may have been meant; a value of the wrong type.
        ValueError: a value out of range, or one that asks for what is not here.
    """
    for name, value in given.items():
        if name not in _CHECKS:
            import difflib

            near = difflib.get_close_matches(name, _CHECKS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f". Keywords: {', '.join(sorted(_CHECKS))}"
            raise TypeError(f"init() got an unexpected keyword argument {name!r}{hint}")
        if name in REFUSED:
            harmless, advice = REFUSED[name]
            if value not in harmless:
                raise ValueError(f"init({name}={value!r}) is not possible: {advice}")
        elif value is not None:
            _CHECKS[name](name, value)


def resolve_address(address: str | None) -> tuple[str | None, str]:
    """Return the address to attach to, None for a session of this process's own; and who asks for it.

    Without an argument only `ORCHESTRATOR_ADDRESS` counts: no file, and no session of somebody else's, is
    looked for. It also says what "auto" is, as for the command line.
    """
    asked = f"init(address={address!r})"
    said = os.environ.get("ORCHESTRATOR_ADDRESS") or None
    if address is None or (address == "auto" and said not in (None, "local")):
        address, asked = said, f"ORCHESTRATOR_ADDRESS={said}"
    return (None if address == "local" else address), asked


#: Keywords that are about the start of a session.
_OF_THE_START = (
    "num_cpus",
    "num_gpus",
    "resources",
    "labels",
    "object_store_memory",
    "object_spilling_directory",
    "mode",
    "_temp_dir",
)


def check_attaching(given: Mapping[str, Any], asked: str) -> None:
    """Refuse what a session cannot be told any more that stands already.

    Raises:
        ValueError: a keyword of its start was given.
    """
    for name in _OF_THE_START:
        if given.get(name) is not None:
            raise ValueError(
                f"init({name}={given[name]!r}) is about the start of a session, and {asked} attaches to one "
                "that stands: leave it out, or give it to `orchestrator start`"
            )
