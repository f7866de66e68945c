"""The options of tasks, actors and methods: declared once, checked once.

The table below is the whole truth: a name, where it may appear, its default and a check. Every
message about an unknown option lists the valid ones from the same table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.common import config, environ
from orchestrator.common.accelerators import TYPE_PREFIX, TYPE_SHARE
from orchestrator.common.labels import check_selector
from orchestrator.common.resources import CPU, ResourceSet
from orchestrator.common.retry_policy import RetryPolicy
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.common.strategies import check_group, check_one_place, check_strategy, strategy_of
from orchestrator.common.task_context import TaskContext, placement_of
from orchestrator.exceptions import ArgumentTypeError

TASK = "task"
ACTOR = "actor"
METHOD = "method"

#: num_returns of a generator whose items become references one by one.
STREAMING = -1
#: num_returns of a generator whose items become references when it has ended, all in one reference.
DYNAMIC = -2

#: What a program written for Ray may call an option.
ALIASES = {
    "_generator_backpressure_num_objects": "generator_backpressure",
}


class Option:
    """One option: who may use it, what it defaults to, what it accepts."""

    __slots__ = ("check", "default", "name", "targets")

    def __init__(self, name: str, targets: str, default: Any, check: Callable[[str, Any], Any]) -> None:
        self.name = name
        self.targets = targets.split()
        self.default = default
        self.check = check


def _number(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    return value


def _integer(low: int) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        if value < low:
            raise ValueError(f"{name} must be >= {low}, not {value}")
        return value

    return check


def _text(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if value == "":
        raise ValueError(f"{name} must not be empty")
    return value


def _flag(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def _num_returns(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if value not in _KINDS_OF_RETURNS:
            raise ValueError(f"{name} must be a number, 'streaming' or 'dynamic', not {value!r}")
        return _KINDS_OF_RETURNS[value]
    return _integer(0)(name, value)


_KINDS_OF_RETURNS = {"streaming": STREAMING, "dynamic": DYNAMIC}


def _backpressure(name: str, value: Any) -> Any:
    if value == -1:  # off, as somebody spells it
        return None
    return _integer(1)(name, value)


def _gpus(name: str, value: Any) -> Any:
    _number(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(f"{name} above 1 must be whole: no process uses {value!r} devices")
    return value


def _seconds(name: str, value: Any) -> Any:
    if value is not None and not _number(name, value):
        raise ValueError(f"{name} must be more than 0")
    return value


def _retry_policy(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, RetryPolicy):
        raise TypeError(f"{name} must be a RetryPolicy, not {type(value).__name__}")
    return value


def _dict(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}")
    return value


def _resources(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of name to number, not {type(value).__name__}")
    for key, quantity in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: names must be str, not {type(key).__name__}")
        if key in ("CPU", "GPU", "memory"):
            raise ValueError(f"{name}: use num_cpus=, num_gpus= or memory= instead of {key!r}")
        _number(f"{name}[{key!r}]", quantity)
    return dict(value)


def _bundle_index(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < -1:
        raise ValueError(f"{name} must be >= -1, which means any, not {value}")
    return value


def _selector(name: str, value: Any) -> Any:
    return None if value is None else check_selector(value, name)


def _fallbacks(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of dicts, not {type(value).__name__}")
    for entry in value:
        if not isinstance(entry, Mapping) or set(entry) != {"label_selector"}:
            raise ValueError(f"{name} must hold dicts with the one key 'label_selector', not {entry!r:.100}")
    return [{"label_selector": check_selector(entry["label_selector"], name)} for entry in value]


def _priority(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if abs(value) >= 2**31:
        raise ValueError(f"{name} must have 32 bits at most, not {value}")
    return value


def _retry_exceptions(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a bool or a list of exception classes, not {type(value).__name__}")
    for item in value:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ArgumentTypeError(f"{name} must hold exception classes, not {item!r}")
    return tuple(value)


def _lifetime(name: str, value: Any) -> Any:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"{name} must be None, 'detached' or 'non_detached', not {value!r}")
    return value


def _groups(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of group name to concurrency, not {type(value).__name__}")
    for group, size in value.items():
        _text(f"{name} key", group)
        _integer(1)(f"{name}[{group!r}]", size)
    return dict(value)


def _runtime_env(name: str, value: Any) -> Any:
    if value is None:
        return None
    from orchestrator.common.runtime_env import RuntimeEnv  # needed by few

    return RuntimeEnv.of(value)


_OPTIONS = {
    option.name: option
    for option in (
        Option("num_cpus", "task actor", None, _number),
        Option("num_gpus", "task actor", None, _gpus),
        Option("memory", "task actor", None, _number),
        Option("resources", "task actor", None, _resources),
        Option("runtime_env", "task actor", None, _runtime_env),
        Option("accelerator_type", "task actor", None, _text),
        Option("scheduling_strategy", "task actor", None, check_strategy),
        Option("placement_group", "task actor", None, check_group),
        Option("placement_group_bundle_index", "task actor", None, _bundle_index),
        Option("placement_group_capture_child_tasks", "task actor", None, _flag),
        Option("label_selector", "task actor", None, _selector),
        Option("fallback_strategy", "task actor", None, _fallbacks),
        Option("priority", "task actor", None, _priority),
        Option("num_returns", "task method", None, _num_returns),
        Option("name", "task actor method", None, _text),
        Option("max_retries", "task", config.MAX_RETRIES, _integer(-1)),
        Option("retry_exceptions", "task method", False, _retry_exceptions),
        Option("retry_policy", "task method", None, _retry_policy),
        Option("max_calls", "task", None, _integer(0)),
        Option("timeout_s", "task method", None, _seconds),
        Option("generator_backpressure", "task method", None, _backpressure),
        Option("writable_args", "task method", False, _flag),
        # What tasks do is recorded, or not; of a record nobody keeps there is nothing to turn off.
        Option("enable_task_events", "task actor method", True, _flag),
        Option("_labels", "task actor", None, _dict),
        Option("max_restarts", "actor", 0, _integer(-1)),
        Option("max_task_retries", "actor method", 0, _integer(-1)),
        Option("max_concurrency", "actor", None, _integer(1)),
        Option("concurrency_groups", "actor", None, _groups),
        Option("concurrency_group", "method", None, _text),
        Option("max_pending_calls", "actor", -1, _integer(-1)),
        Option("namespace", "actor", None, _text),
        Option("lifetime", "actor", None, _lifetime),
        Option("get_if_exists", "actor", False, _flag),
        Option("allow_out_of_order_execution", "actor", None, _flag),
    )
}


def valid_names(target: str) -> list[str]:
    """Return the names of the options a task, an actor or a method takes."""
    return sorted(name for name, option in _OPTIONS.items() if target in option.targets)


def _unknown(target: str, given: str) -> str:
    """Return what is said of an option that there is not."""
    import difflib

    names = valid_names(target)
    near = difflib.get_close_matches(given, names, 1)
    article = "an" if target == ACTOR else "a"
    return (
        f"{given!r} is not an option of {article} {target}. "
        f"{f'Did you mean {near[0]!r}? ' if near else ''}Valid options: {', '.join(names)}"
    )


def merge(target: str, base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with checked `changes` applied.

    Raises:
        ValueError: an unknown option (the text lists the valid ones), or a value out of range.
        TypeError: a value of the wrong type.
    """
    merged = dict(base)
    for given, value in changes.items():
        name = ALIASES.get(given, given)
        option = _OPTIONS.get(name)
        if option is None or target not in option.targets:
            raise ValueError(_unknown(target, given))
        merged[name] = option.check(given, value)
    if target != METHOD:
        task_resources(merged)  # raises for what is too fine
        check_one_place(merged)
        strategy_of(merged)  # raises for a bundle that the group does not have
    if merged.get("get_if_exists") and not merged.get("name"):
        raise ValueError("get_if_exists=True needs a name")
    return merged


def max_retries(options: Mapping[str, Any]) -> int:
    """Return how often a task may be retried; the environment may change the default.

    Raises:
        ValueError: a variable of the environment holds something else than a number.
    """
    chosen = options.get("max_retries")
    if chosen is None:
        chosen = environ.setting("TASK_MAX_RETRIES")
        if chosen is None:
            return config.MAX_RETRIES
        if not re.fullmatch(r"-1|\d+", chosen):
            name = "the environment variable ORCHESTRATOR_TASK_MAX_RETRIES"
            raise ValueError(f"{name} must hold a number >= -1, not {chosen!r}")
    return int(chosen)


def max_calls(options: Mapping[str, Any]) -> int:
    """Return after how many calls a worker ends, 0 for never; one that had a GPU ends to free its memory."""
    chosen = options.get("max_calls")
    if chosen is None:
        return 1 if options.get("num_gpus") else 0
    return int(chosen)


def value_of(options: Mapping[str, Any], name: str) -> Any:
    """Return the option's value, or its default when it was not given."""
    value = options.get(name)
    return _OPTIONS[name].default if value is None else value


def _explicit(options: Mapping[str, Any], cpu_default: float) -> dict[str, float]:
    quantities: dict[str, float] = dict(options.get("resources") or {})
    cpus = options.get("num_cpus")
    quantities[CPU] = cpu_default if cpus is None else cpus
    for option, name in (("num_gpus", "GPU"), ("memory", "memory")):
        if options.get(option):
            quantities[name] = options[option]
    if options.get("accelerator_type"):
        quantities[TYPE_PREFIX + options["accelerator_type"]] = TYPE_SHARE
    return quantities


def task_resources(options: Mapping[str, Any]) -> ResourceSet:
    """Return what one run of a task holds: one CPU unless it says otherwise."""
    return ResourceSet.from_floats(_explicit(options, 1.0))


def task_class(options: Mapping[str, Any], context: TaskContext, name: str) -> SchedulingClass:
    """Return the scheduling class of a task that will run in `context` (see `context_of`).

    Raises:
        ValueError: no bundle of its placement group can ever hold it.
    """
    resources = task_resources(options)
    placement = placement_of(options, context, resources, name)
    retriable = max_retries(options) != 0
    return SchedulingClass(resources, "", placement, context.priority, retriable)


def actor_class(
    options: Mapping[str, Any], context: TaskContext, name: str
) -> tuple[SchedulingClass, ResourceSet]:
    """Return (what an actor needs to be placed, what it holds while alive); see `actor_resources`.

    Raises:
        ValueError: no bundle of its placement group can ever hold it.
    """
    resources, hold = actor_resources(options)
    placement = placement_of(options, context, resources, name)
    retriable = value_of(options, "max_restarts") != 0
    return SchedulingClass(resources, "", placement, context.priority, retriable), hold


def actor_resources(options: Mapping[str, Any]) -> tuple[ResourceSet, ResourceSet]:
    """Return (what an actor needs to be placed, what it holds while alive).

    Without explicit resources an actor needs one CPU to be placed and holds none. As soon as any
    is given, CPU defaults to one and all of it is held for life; `memory` alone does not count.
    """
    explicit = any(options.get(name) is not None for name in ("num_cpus", "num_gpus", "resources"))
    placement = ResourceSet.from_floats(_explicit(options, 1.0))
    if explicit:
        return placement, placement
    return placement, ResourceSet.from_floats({"memory": options["memory"]} if options.get("memory") else {})
