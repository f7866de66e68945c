"""What a user writes: `runtime_env={"env_vars": {...}, "pip": [...]}`, checked field by field."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

#: Seconds that building an environment may take.
SETUP_TIMEOUT_S = 600

#: Fields of Ray's that are not here → what to do instead.
NOT_HERE = {
    "uv": 'use "pip"',
    "conda": 'make the environment yourself, and name its interpreter as "py_executable"',
    "container": "run the whole session in a container",
    "image_uri": "run the whole session in a container",
    "nsight": 'name a command that wraps the interpreter as "py_executable"',
    "rocprof-sys": 'name a command that wraps the interpreter as "py_executable"',
    "java_jars": "there are no workers in Java",
}


def _env_vars(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"env_vars must be a dict of str to str, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"env_vars must be a dict of str to str, and has {name!r}: {text!r}")
        if not name or "=" in name or "\0" in name + text:
            raise ValueError(f"env_vars: {name!r} is no name for a variable, or there is a NUL in its value")
    return dict(value)


def _path(field: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{field} must be a path, not {type(value).__name__}")
    path = os.fspath(value)
    if not isinstance(path, str) or not path:
        raise ValueError(f"{field} must not be empty, and a str")
    scheme, separator, rest = path.partition("://")
    if separator:
        if scheme != "file":
            raise ValueError(
                f"{field}={path!r}: only local paths are possible here; download it, and give the path"
            )
        path = rest
    # Absolute at once: a function that carries it may be submitted by a worker that stands elsewhere.
    return os.path.abspath(os.path.expanduser(path))


def _py_modules(value: Any) -> list[str]:
    if isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable):
        raise TypeError(f"py_modules must be a list of paths or modules, not {type(value).__name__}")
    return [_path("py_modules", _place_of(item) if isinstance(item, ModuleType) else item) for item in value]


def _place_of(module: ModuleType) -> str:
    places = list(getattr(module, "__path__", ()))
    place = places[0] if places else getattr(module, "__file__", None)
    if place is None:
        raise ValueError(f"py_modules: {module.__name__} is not a module with files of its own")
    return str(place)


def _texts(field: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{field} must be a list of str, not {type(value).__name__}")
    texts = list(value)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{field} must be a list of str, and has {text!r}")
    return texts


_PIP_FIELDS = ("packages", "pip_check", "pip_install_options", "pip_version")


def _pip(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        value = {"packages": value}
    unknown = sorted(set(value) - set(_PIP_FIELDS))
    if unknown:
        raise ValueError(f"pip: {unknown[0]!r} is not one of its fields: {', '.join(_PIP_FIELDS)}")
    packages = value.get("packages")
    if packages is None:
        raise ValueError('pip: the field "packages" is missing')
    check = value.get("pip_check", False)
    if not isinstance(check, bool):
        raise TypeError(f"pip: pip_check must be a bool, not {type(check).__name__}")
    version = value.get("pip_version")
    if version is not None and not isinstance(version, str):
        raise TypeError(f"pip: pip_version must be a str, not {type(version).__name__}")
    return {
        # A str, or a path, is a file of requirements; it is read when the environment is first needed.
        "packages": _path("pip", packages)
        if isinstance(packages, (str, os.PathLike))
        else _texts("pip: packages", packages),
        "pip_check": check,
        "pip_install_options": _texts("pip: pip_install_options", value.get("pip_install_options") or []),
        "pip_version": version,
    }


def _py_executable(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"py_executable must be a command, not {type(value).__name__}")
    command = os.fspath(value)
    if not shlex.split(command):
        raise ValueError("py_executable must not be empty")
    return command


def _hook(value: Any) -> Any:
    if isinstance(value, str):
        module, _, function = value.rpartition(".")
        if not module or not function:
            raise ValueError(
                f"worker_process_setup_hook={value!r} must be a function, or where it is: 'module.function'"
            )
    elif not callable(value):
        raise TypeError(
            f"worker_process_setup_hook must be a function or 'module.function', not {type(value).__name__}"
        )
    return value


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up.

    Args:
        setup_timeout_seconds: how long building it may take; -1 for ever.
        eager_install: has no effect: an environment is built when it is first needed.
    """

    def __init__(self, setup_timeout_seconds: int = SETUP_TIMEOUT_S, eager_install: bool = True) -> None:
        if isinstance(setup_timeout_seconds, bool) or not isinstance(setup_timeout_seconds, int):
            kind = type(setup_timeout_seconds).__name__
            raise TypeError(f"config: setup_timeout_seconds must be an int, not {kind}")
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(
                f"config: setup_timeout_seconds must be > 0, or -1 for no limit, not {setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(f"config: eager_install must be a bool, not {type(eager_install).__name__}")
        super().__init__(setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install)


def _config(value: Any) -> RuntimeEnvConfig:
    if not isinstance(value, Mapping):
        raise TypeError(f"config must be a dict, not {type(value).__name__}")
    unknown = sorted(set(value) - {"setup_timeout_seconds", "eager_install"})
    if unknown:
        raise ValueError(f"config: {unknown[0]!r} is not one of: setup_timeout_seconds, eager_install")
    return RuntimeEnvConfig(**value)


FIELDS: dict[str, Callable[[Any], Any]] = {
    "config": _config,
    "env_vars": _env_vars,
    "excludes": lambda value: _texts("excludes", value),
    "pip": _pip,
    "py_executable": _py_executable,
    "py_modules": _py_modules,
    "worker_process_setup_hook": _hook,
    "working_dir": lambda value: _path("working_dir", value),
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, list) else value


class RuntimeEnv(dict[str, Any]):
    """An environment for tasks and actors; a plain dict of the same fields does as well.

    Paths may name what is not there yet: they are looked at when the environment is first used.

    Args:
        env_vars: variables to set; `${NAME}` in a value stands for what the variable was before.
        working_dir: a directory, or a zip file, whose copy is the current directory, and importable from.
        py_modules: directories and files of modules, wheels, or modules, whose copies can be imported.
        excludes: what of `working_dir` and `py_modules` to leave out, in the language of `.gitignore`.
        py_executable: the interpreter, or a command that starts it, of the same minor version as this one.
        pip: requirements as a list, as the path of a file, or in a dict with `packages`,
            `pip_install_options`, `pip_check` and `pip_version`. They are installed on top of what is here.
        worker_process_setup_hook: a function, or "module.function", called in each worker before it takes
            work.
        config: `{"setup_timeout_seconds": 600}`.

    Raises:
        ValueError: an unknown field; the text lists those there are.
        TypeError: a value of the wrong type.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        for name, value in fields.items():
            self[name] = value
        if "pip" in self and "py_executable" in self:
            raise ValueError(
                "pip and py_executable exclude each other: pip makes an interpreter of its own; install the "
                "packages where py_executable finds them"
            )

    @classmethod
    def of(cls, value: Any) -> RuntimeEnv:
        """Return a checked environment.

        Raises:
            ValueError, TypeError: see the class.
        """
        if isinstance(value, RuntimeEnv):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"runtime_env must be a dict or a RuntimeEnv, not {type(value).__name__}")
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"runtime_env: fields have names, not {name!r}")
        return cls(**value)

    @classmethod
    def deserialize(cls, text: str) -> RuntimeEnv:
        """Return the environment that `serialize` has made this text of; nothing is checked again."""
        return cls.trusted(json.loads(text))

    @classmethod
    def trusted(cls, fields: Mapping[str, Any]) -> RuntimeEnv:
        """Return an environment with fields that have been checked before."""
        env = cls()
        env.update(fields)
        return env

    def serialize(self) -> str:
        """Return the environment as JSON.

        Raises:
            TypeError: its hook is a function, rather than the name of one.
        """
        return json.dumps(self, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, with a copy of each."""
        return {name: _plain(value) for name, value in self.items()}

    def __setitem__(self, name: str, value: Any) -> None:
        check = FIELDS.get(name)
        if check is None:
            hint = f" here: {NOT_HERE[name]}." if name in NOT_HERE else "."
            raise ValueError(
                f"{name!r} is not a field of a runtime environment{hint} Fields: {', '.join(FIELDS)}"
            )
        if value is not None:
            super().__setitem__(name, check(value))

    def set(self, name: str, value: Any) -> None:
        """Give a field another value; None leaves it as it is.

        Raises:
            ValueError, TypeError: see the class.
        """
        self[name] = value

    def env_vars(self) -> dict[str, str]:
        """Return the variables to set."""
        return self.get("env_vars") or {}

    def has_working_dir(self) -> bool:
        """Tell whether there is a `working_dir`."""
        return "working_dir" in self

    def working_dir(self) -> str:
        """Return the `working_dir`, an empty text if there is none."""
        return self.get("working_dir") or ""

    def py_modules(self) -> list[str]:
        """Return the paths of the `py_modules`."""
        return list(self.get("py_modules") or ())

    def py_executable(self) -> str | None:
        """Return the command that starts the interpreter, if it is said."""
        return self.get("py_executable")

    def has_pip(self) -> bool:
        """Tell whether there are requirements to install."""
        return bool(self.get("pip"))

    def pip_config(self) -> dict[str, Any]:
        """Return the requirements and how they are installed, in the fields of `pip`."""
        return self.get("pip") or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (RuntimeEnv.trusted, (dict(self),))
