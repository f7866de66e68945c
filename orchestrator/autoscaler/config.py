"""What the autoscaler may do: node types, limits and speeds, checked in full before anything is done.

The names are those of Ray's YAML where there is one. `parse_config` takes what a YAML or JSON file holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.common.labels import check_labels
from orchestrator.common.resources import ResourceSet

#: More nodes than that are a mistake: the number of a node in a cluster has 16 bits.
NODES_MAX = 60_000
#: Nodes may be on their way at the same time, whatever the speed.
LAUNCHES_MIN = 5


class ConfigError(ValueError):
    """A configuration makes no sense; the text says where, what is there, and what should be."""


@dataclass(frozen=True)
class NodeType:
    """A kind of node that a provider can make."""

    name: str
    resources: ResourceSet
    labels: Mapping[str, str] = field(default_factory=dict)
    min_workers: int = 0
    max_workers: int = NODES_MAX
    #: Without work for this long, a node of this type goes; None as in the whole.
    idle_timeout_s: float | None = None
    #: Of types that serve a demand equally well, the one of the highest priority is taken.
    priority: int = 0
    #: What only the provider understands.
    node_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AutoscalerConfig:
    """Everything the autoscaler is told by its operator."""

    node_types: Mapping[str, NodeType]
    cluster_name: str = "default"
    #: Nodes of all types together, without the head.
    min_workers: int = 0
    max_workers: int = 2
    #: Nodes that may be on their way, as a multiple of those that run; at least `LAUNCHES_MIN`.
    upscaling_speed: float = 1.0
    idle_timeout_s: float = 300.0
    #: Kind of the provider, and what only it understands.
    provider: Mapping[str, Any] = field(default_factory=lambda: {"type": "local"})

    def idle_timeout_of(self, node_type: str) -> float:
        """Return after what time without work a node of this type goes, in seconds."""
        found = self.node_types.get(node_type)
        if found is None or found.idle_timeout_s is None:
            return self.idle_timeout_s
        return found.idle_timeout_s

    def within(self, minimum: int, maximum: int) -> AutoscalerConfig:
        """Return the same with other limits for all nodes together.

        Raises:
            ConfigError: they make no sense.
        """
        _check(minimum <= maximum, "minimum", minimum, f"at most the maximum ({maximum})")
        _check(minimum >= 0, "minimum", minimum, "0 or more")
        _check(maximum <= NODES_MAX, "maximum", maximum, f"at most {NODES_MAX}")
        return replace(self, min_workers=minimum, max_workers=maximum)


def parse_config(found: Any) -> AutoscalerConfig:
    """Return the configuration that a file holds.

    Raises:
        ConfigError: it makes no sense; unknown names are errors, too.
    """
    top = _Section(found, "")
    types = top.section("available_node_types")
    idle_s = top.number("idle_timeout_s", None)
    idle_min = top.number("idle_timeout_minutes", None)
    if idle_s is not None and idle_min is not None:
        raise ConfigError("idle_timeout_s and idle_timeout_minutes both say how long: give one of them")
    config = AutoscalerConfig(
        node_types={name: _node_type(name, types) for name in types.names()},
        cluster_name=top.text("cluster_name", "default"),
        min_workers=top.count("min_workers", 0),
        max_workers=top.count("max_workers", 2),
        upscaling_speed=top.number("upscaling_speed", 1.0) or 0.0,
        idle_timeout_s=300.0
        if idle_s is idle_min is None
        else idle_s
        if idle_s is not None
        else 60 * (idle_min or 0),
        provider=top.mapping("provider", {"type": "local"}),
    )
    top.done()
    _check(bool(config.node_types), "available_node_types", "{}", "at least one type of node")
    _check("type" in config.provider, "provider", dict(config.provider), "a mapping with the name 'type'")
    least = sum(one.min_workers for one in config.node_types.values())
    most = config.max_workers
    _check(least <= most, "max_workers", most, f"at least the sum of all min_workers ({least})")
    _check(config.min_workers <= most, "min_workers", config.min_workers, f"at most max_workers ({most})")
    return config


def _idle_timeout_s(seconds: float | None, minutes: float | None) -> float:
    if seconds is not None:
        return seconds
    return 300.0 if minutes is None else 60 * minutes


def _node_type(name: str, types: _Section) -> NodeType:
    section = types.section(name)
    least = section.count("min_workers", 0)
    most = section.count("max_workers", NODES_MAX)
    _check(least <= most, section.path("min_workers"), least, f"at most its max_workers ({most})")
    made = NodeType(
        name=name,
        resources=section.resources("resources"),
        labels=section.labels("labels"),
        min_workers=least,
        max_workers=most,
        idle_timeout_s=section.number("idle_timeout_s", None),
        priority=section.integer("priority", 0),
        node_config=section.mapping("node_config", {}),
    )
    section.done()
    return made


class _Section:
    """A mapping of a file, of which is noted what was asked for."""

    def __init__(self, found: Any, where: str) -> None:
        self._where = where
        if not isinstance(found, Mapping):
            raise ConfigError(f"{where or 'the configuration'}: must be a mapping, not {_shown(found)}")
        for key in found:
            if not isinstance(key, str):
                raise ConfigError(f"{where or 'the configuration'}: names must be text, not {_shown(key)}")
        self._found = found
        self._known: list[str] = []

    def path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def names(self) -> list[str]:
        self._known += self._found
        return list(self._found)

    def section(self, name: str) -> _Section:
        self._known.append(name)
        if name not in self._found:
            raise ConfigError(f"{self.path(name)}: is missing")
        return _Section(self._found[name], self.path(name))

    def _get(self, name: str, default: Any, is_right: Callable[[Any], bool], what: str) -> Any:
        self._known.append(name)
        value = self._found.get(name, default)
        if value is default:
            return default
        _check(is_right(value), self.path(name), value, what)
        return value

    def text(self, name: str, default: str) -> str:
        found: str = self._get(name, default, lambda v: isinstance(v, str) and bool(v), "a text")
        return found

    def integer(self, name: str, default: int) -> int:
        found: int = self._get(name, default, lambda v: type(v) is int, "an integer")
        return found

    def count(self, name: str, default: int) -> int:
        what = f"an integer from 0 to {NODES_MAX}"
        found: int = self._get(name, default, lambda v: type(v) is int and 0 <= v <= NODES_MAX, what)
        return found

    def number(self, name: str, default: float | None) -> float | None:
        found: float | None = self._get(
            name,
            default,
            lambda v: type(v) in (int, float) and math.isfinite(v) and v >= 0,
            "a finite number, 0 or more",
        )
        return found

    def mapping(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._get(name, default, lambda v: isinstance(v, Mapping), "a mapping")
        return found

    def resources(self, name: str) -> ResourceSet:
        self._known.append(name)
        found = self._found.get(name)
        if not isinstance(found, Mapping) or not found:
            what = "what such a node has, like {'CPU': 4}"
            raise ConfigError(f"{self.path(name)}: must be {what}, not {_shown(found)}")
        for kind, quantity in found.items():
            _check(isinstance(kind, str), self.path(name), kind, "the name of a resource")
            _check(type(quantity) in (int, float), f"{self.path(name)}.{kind}", quantity, "a number")
        try:
            return ResourceSet.from_floats(found)
        except (ValueError, OverflowError) as exc:
            raise ConfigError(f"{self.path(name)}: {exc}") from None

    def labels(self, name: str) -> Mapping[str, str]:
        try:
            return check_labels(self.mapping(name, {}), self.path(name))
        except (TypeError, ValueError) as exc:
            raise ConfigError(str(exc)) from None

    def done(self) -> None:
        """Refuse names that nobody has asked for: a misspelt limit is no limit."""
        unknown = sorted(set(self._found) - set(self._known))
        if unknown:
            known = ", ".join(sorted(set(self._known)))
            raise ConfigError(f"{self.path(unknown[0])}: there is no such setting; known are {known}")


def _check(is_right: bool, where: str, value: Any, what: str) -> None:
    if not is_right:
        raise ConfigError(f"{where}: must be {what}, not {_shown(value)}")


def _shown(value: Any) -> str:
    return f"{value!r:.100}"


def check_requests(bundles: Sequence[Mapping[str, float]]) -> list[ResourceSet]:
    """Return what `request_resources` was asked for.

    Raises:
        ConfigError: it makes no sense.
    """
    wanted = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping) or not bundle:
            what = "a mapping of resources, like {'CPU': 1}"
            raise ConfigError(f"bundles[{index}]: must be {what}, not {_shown(bundle)}")
        try:
            wanted.append(ResourceSet.from_floats(bundle))
        except (TypeError, ValueError, OverflowError) as exc:
            raise ConfigError(f"bundles[{index}]: {exc}") from None
    return wanted
