"""Environments with everything in them found, copied and made absolute: what processes tell each other.

A resolved environment is a dict that JSON can carry:

    env_vars            {name: value}
    working_dir         path of the copy
    py_modules          [path of a copy]
    py_executable       command
    pip                 {"lines": [...], "options": [...], "check": bool, "pip_version", "files", "python"}
    hook                "module.function", or the path of a pickle
    setup_timeout_s     seconds

It is known by its key, a hash of its canonical JSON, and kept under that name in the session's directory,
where every process of the session finds it. The empty one has the empty key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.common.runtime_env import RuntimeEnv
from orchestrator.environments.cache import CachedEnvironment, cache_root

Resolved = dict[str, Any]

_REFERENCE = re.compile(r"\$\{(\w+)\}")

#: Variables that are read when an interpreter starts or a library is loaded. A forked worker has all of that
#: behind it: these need an interpreter of their own.
_READ_EARLY = re.compile(
    r"PYTHON|LD_|MALLOC_|GLIBC_TUNABLES|OMP_|OPENBLAS_|MKL_|BLIS_|VECLIB_|NUMEXPR_|NUMBA_|GOTO_|KMP_|LANG$|LC_"
)


def directory_of(session_dir: str) -> str:
    """Return where a session keeps environments and copies."""
    return os.path.join(session_dir, "environments")


def resolve(env: RuntimeEnv, session_dir: str, dumps: Callable[[Any], bytes]) -> Resolved:
    """Find and copy what an environment names; paths are meant from the current directory on.

    Raises:
        ValueError: something that it names is not there, or too large.
    """
    from orchestrator.environments.packages import copy_directory, copy_module  # workers don't copy

    root = directory_of(session_dir)
    excludes = env.get("excludes") or []
    resolved: Resolved = {}
    if env.get("env_vars"):
        resolved["env_vars"] = dict(env["env_vars"])
    if "working_dir" in env:
        source = os.path.abspath(env["working_dir"])
        if not os.path.exists(source):
            raise ValueError(f"working_dir: there is no {source}")
        resolved["working_dir"] = copy_directory(source, root, excludes)
    if env.get("py_modules"):
        sources = [os.path.abspath(path) for path in env["py_modules"]]
        for source in sources:
            if not os.path.exists(source):
                raise ValueError(f"py_modules: there is no {source}")
        resolved["py_modules"] = [copy_module(source, root, excludes) for source in sources]
    if "py_executable" in env:
        resolved["py_executable"] = env["py_executable"]
    if "pip" in env:
        resolved["pip"] = _resolve_pip(env["pip"])
    if "worker_process_setup_hook" in env:
        hook = env["worker_process_setup_hook"]
        resolved["hook"] = hook if isinstance(hook, str) else _write(root, dumps(hook), ".hook")
    if "config" in env:
        resolved["setup_timeout_s"] = env["config"]["setup_timeout_seconds"]
    return resolved


def _resolve_pip(pip: Mapping[str, Any]) -> dict[str, Any]:
    packages = pip["packages"]
    if isinstance(packages, str):
        try:
            with open(packages, encoding="utf-8") as file:
                packages = [line.rstrip("\r\n") for line in file]
        except OSError as exc:
            raise ValueError(f"pip: the file of requirements cannot be read: {exc}") from None
    lines = [line.strip() for line in packages]
    lines = [line for line in lines if line and not line.startswith("#")]
    files: dict[str, str] = {}
    for i, line in enumerate(lines):
        path = os.path.abspath(os.path.expanduser(line))
        # Wheels and archives that lie here are known by their content: one that is built anew is another.
        if not line.startswith("-") and os.path.isfile(path):
            lines[i] = path
            with open(path, "rb") as wheel:
                files[path] = hashlib.sha256(wheel.read()).hexdigest()
    return {
        "lines": lines,
        "options": list(pip["pip_install_options"]),
        "check": pip["pip_check"],
        "pip_version": pip["pip_version"],
        "files": files,
        # What is built on top of this interpreter, and what it can import, does not fit another.
        "python": {
            "executable": sys.executable,
            "version": sys.version,
            "packages": [path for path in sys.path if os.path.basename(path).endswith("-packages")],
        },
    }


def merge(parent: Resolved, child: Resolved) -> Resolved:
    """Return what a child runs in: `env_vars` name by name, every other field the child's if it has it.

    `${NAME}` in the child's variables stands for the parent's, where that sets it.
    """
    merged = {**parent, **child}
    if "pip" in child:
        merged.pop("py_executable", None)
    elif "py_executable" in child:
        merged.pop("pip", None)
    inherited = parent.get("env_vars") or {}
    if inherited and "env_vars" in child:
        own = {
            name: _REFERENCE.sub(lambda match: inherited.get(match[1], match[0]), text)
            for name, text in child["env_vars"].items()
        }
        merged["env_vars"] = {**inherited, **own}
    return merged


def key_of(resolved: Resolved) -> str:
    """Return the key of an environment; "" for the empty one."""
    if not resolved:
        return ""
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:20]


def publish(resolved: Resolved, session_dir: str) -> str:
    """Have every process of the session know an environment; return its key."""
    key = key_of(resolved)
    if key:
        publish_as(key, resolved, session_dir)
    return key


def publish_as(key: str, resolved: Resolved, session_dir: str) -> None:
    """Have every process of the session know an environment under the key that it has on another node."""
    path = path_of(key, session_dir)
    if not os.path.exists(path):
        _write(directory_of(session_dir), json.dumps(resolved, sort_keys=True).encode(), ".json", path)


def path_of(key: str, session_dir: str) -> str:
    """Return the file in which the environment with this key is."""
    return os.path.join(directory_of(session_dir), f"{key}.json")


def load(key: str, session_dir: str) -> Resolved:
    """Return the environment with this key.

    Raises:
        OSError: nobody has published it.
    """
    if not key:
        return {}
    if not key.isalnum():
        raise OSError(f"{key!r} is no key")  # nor the name of a file: it may come from anybody
    with open(path_of(key, session_dir), encoding="utf-8") as file:
        resolved: Resolved = json.load(file)
    return resolved


def _write(root: str, data: bytes, suffix: str, path: str = "") -> str:
    """Write a file that is complete as soon as it has its name, which is its content's unless given."""
    import tempfile

    path = path or os.path.join(root, hashlib.sha256(data).hexdigest()[:32] + suffix)
    os.makedirs(root, 0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=root)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.rename(temporary, path)
    return path


def describe(resolved: Resolved) -> dict[str, Any]:
    """Return an environment in the fields that a user knows."""
    described: dict[str, Any] = {
        name: resolved[name]
        for name in ("env_vars", "working_dir", "py_modules", "py_executable")
        if name in resolved
    }
    if "pip" in resolved:
        described["pip"] = {
            "packages": resolved["pip"]["lines"],
            "pip_check": resolved["pip"]["check"],
            "pip_install_options": resolved["pip"]["options"],
            "pip_version": resolved["pip"]["pip_version"],
        }
    if "hook" in resolved:
        described["worker_process_setup_hook"] = resolved["hook"]
    if "setup_timeout_s" in resolved:
        described["config"] = {"setup_timeout_seconds": resolved["setup_timeout_s"]}
    return described


def expand(variables: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """Return variables with `${NAME}` replaced by what was set before; by nothing where it was not."""
    return {
        name: _REFERENCE.sub(lambda match: before.get(match[1], ""), text) for name, text in variables.items()
    }


def cached_of(resolved: Resolved) -> CachedEnvironment | None:
    """Return where the packages of an environment are, or will be; None if it has none of its own."""
    pip = resolved.get("pip")
    if pip is None:
        return None
    key = hashlib.sha256(json.dumps(pip, sort_keys=True).encode()).hexdigest()[:32]
    return CachedEnvironment(key, cache_root())


def command_of(resolved: Resolved, default: str) -> list[str] | None:
    """Return the command that starts the interpreter of a worker; None if it can be forked.

    Args:
        default: the interpreter of the session.
    """
    if "py_executable" in resolved:
        return shlex.split(resolved["py_executable"])
    cached = cached_of(resolved)
    if cached is not None:
        return [cached.python]
    if any(_READ_EARLY.match(name) for name in resolved.get("env_vars") or ()):
        return [default]
    return None
