"""Scheduling strategies: what a user may say about where a task or an actor is to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from orchestrator.common.ids import Id
from orchestrator.common.resources import ResourceSet

#: A node is named by eight random bytes.
_NODE_ID = re.compile(r"[0-9a-f]{16}")
#: The value of the option `placement_group` that stands for the submitter's, if that one captures.
INHERITED = "default"
#: What `scheduling_strategy=PlacementGroupSchedulingStrategy(...)` says, as three options.
GROUP_OPTIONS = (
    "placement_group",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
)


class Group(Protocol):
    """What is wanted of a placement group here."""

    id: Id
    bundles: tuple[ResourceSet, ...]

    @property
    def bundle_count(self) -> int: ...


class PlacementGroupSchedulingStrategy:
    """In a placement group, or, with None, in none, although the submitter runs in one that captures.

    Args:
        placement_group: the group, or None.
        placement_group_bundle_index: which bundle of it; -1 for any that has room.
        placement_group_capture_child_tasks: whether what the task or actor submits runs in the group too,
            unless it says otherwise; None as in the submitter.

    Raises:
        TypeError, ValueError: not a group, or an index it does not have.
    """

    def __init__(
        self,
        placement_group: Group | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        if placement_group is not None and not hasattr(placement_group, "bundle_specs"):
            raise TypeError(f"placement_group must be a PlacementGroup or None, not {placement_group!r:.100}")
        if type(placement_group_bundle_index) is not int:
            raise TypeError(
                f"placement_group_bundle_index must be an int, not {placement_group_bundle_index!r:.100}"
            )
        count = 0 if placement_group is None else placement_group.bundle_count
        if not -1 <= placement_group_bundle_index < max(count, 1):
            raise ValueError(
                f"placement_group_bundle_index={placement_group_bundle_index}: the group has {count} "
                "bundles; -1 means any"
            )
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return (
            f"PlacementGroupSchedulingStrategy({self.placement_group}, {self.placement_group_bundle_index})"
        )


class NodeAffinitySchedulingStrategy:
    """On one node.

    Args:
        node_id: its id, as `get_runtime_context().get_node_id()` or `nodes()` have it.
        soft: elsewhere, if that node is gone or never can; otherwise this is an error.

    Raises:
        TypeError, ValueError: not an id.
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, str):
            raise TypeError(f"node_id must be a str, not {node_id!r:.100}")
        if not _NODE_ID.fullmatch(node_id):
            raise ValueError(f"node_id must be the id of a node, 16 hexadecimal digits, not {node_id!r:.100}")
        if not isinstance(soft, bool):
            raise TypeError(f"soft must be a bool, not {soft!r:.100}")
        self.node_id = node_id
        self.soft = soft

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy({self.node_id!r}, soft={self.soft})"


SchedulingStrategy = (
    None | Literal["DEFAULT", "SPREAD"] | PlacementGroupSchedulingStrategy | NodeAffinitySchedulingStrategy
)
"""What the option `scheduling_strategy` takes."""


def check_strategy(name: str, value: Any) -> Any:
    """Return a value of the option `scheduling_strategy`.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, str) and value not in ("DEFAULT", "SPREAD"):
        raise ValueError(f"{name} must be 'DEFAULT' or 'SPREAD' if it is a str, not {value!r}")
    kinds = (str, PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy)
    if value is not None and not isinstance(value, kinds):
        raise TypeError(
            f"{name} must be 'DEFAULT', 'SPREAD', a PlacementGroupSchedulingStrategy or a "
            f"NodeAffinitySchedulingStrategy, not {value!r:.100}"
        )
    return value


class InheritedGroup:
    """In the submitter's placement group, as without a strategy, but for what is said otherwise.

    Args:
        bundle_index: which bundle of it.
        captures: whether that group is meant at all, and what is submitted from there runs in it too; None as
            in the submitter.
    """

    def __init__(self, bundle_index: int, captures: bool | None) -> None:
        self.placement_group_bundle_index = bundle_index
        self.placement_group_capture_child_tasks = captures


def strategy_of(options: Mapping[str, Any]) -> Any:
    """Return the strategy that options say, be it by that name or by `GROUP_OPTIONS`.

    Raises:
        TypeError, ValueError: the group does not have that bundle.
    """
    strategy = options.get("scheduling_strategy")
    if strategy is not None or options.keys().isdisjoint(GROUP_OPTIONS):
        return strategy
    group = options.get("placement_group", INHERITED)
    index = options.get("placement_group_bundle_index", -1)
    captures = options.get("placement_group_capture_child_tasks")
    if group == INHERITED:
        return None if index == -1 and captures is None else InheritedGroup(index, captures)
    if group is None and index != -1:
        raise ValueError(f"placement_group_bundle_index={index} without a placement group")
    return PlacementGroupSchedulingStrategy(group, index, captures)


def check_group(name: str, value: Any) -> Any:
    """Return a value of the option `placement_group`.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, str) and value != INHERITED:
        raise ValueError(f"{name} must be a PlacementGroup, None or {INHERITED!r}, not {value!r:.100}")
    if value is not None and not isinstance(value, str) and not hasattr(value, "bundle_specs"):
        raise TypeError(f"{name} must be a PlacementGroup, None or {INHERITED!r}, not {value!r:.100}")
    return value


def check_one_place(options: Mapping[str, Any]) -> None:
    """Check that no two options say where to run.

    Raises:
        ValueError: they do.
    """
    places = [
        name
        for name, nowhere in (
            ("placement_group", (None, INHERITED)),
            ("scheduling_strategy", (None,)),
        )
        if options.get(name) not in nowhere
    ]
    if options.get("label_selector") and options.get("scheduling_strategy") != "DEFAULT":
        places.append("label_selector")
    if len(places) > 1:
        raise ValueError(f"{' and '.join(places)} both say where to run: give one of them")
