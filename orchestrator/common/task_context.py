"""What a task or an actor hands on to those that it submits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, OnNode, Placement, Spread, WithLabels, selector_of
from orchestrator.common.strategies import (
    InheritedGroup,
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    strategy_of,
)

#: Id of a placement group, and its bundles.
Group = tuple[str, tuple[ResourceSet, ...]]


class TaskContext(NamedTuple):
    """The circumstances of a run that its children inherit."""

    #: The placement group that it runs in.
    group: Group | None = None
    #: Whether the children run there too.
    captures: bool = False
    priority: int = 0

    def to_wire(self) -> dict[str, Any]:
        """Return it as builtins, for a message."""
        group = None if self.group is None else (self.group[0], [one.to_floats() for one in self.group[1]])
        return {"group": group, "captures": self.captures, "priority": self.priority}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> TaskContext:
        """Return what `to_wire` has made builtins of."""
        group = wire["group"]
        if group is not None:
            group = (group[0], tuple(map(ResourceSet.from_floats, group[1])))
        return cls(group, wire["captures"], wire["priority"])


#: In a driver, and in tasks whose options say nothing that is handed on.
PLAIN_CONTEXT = TaskContext()


def context_of(options: Mapping[str, Any], outer: TaskContext) -> TaskContext:
    """Return the context of a task with these options, submitted in another.

    Raises:
        ValueError: a bundle of the submitter's placement group is wanted, and it does not hand on one.
    """
    priority = options.get("priority")
    strategy = strategy_of(options)
    group = _group_of(strategy, outer)
    captures = False
    if group is not None:
        asked = getattr(strategy, "placement_group_capture_child_tasks", None)
        captures = outer.captures if asked is None else asked
    return TaskContext(group, captures, outer.priority if priority is None else priority)


def _group_of(strategy: Any, outer: TaskContext) -> Group | None:
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        group = strategy.placement_group
        return None if group is None else (group.id.hex(), group.bundles)
    if isinstance(strategy, InheritedGroup):
        return _inherited(strategy, outer)
    if isinstance(strategy, NodeAffinitySchedulingStrategy) or not outer.captures:
        return None
    return outer.group


def _inherited(strategy: InheritedGroup, outer: TaskContext) -> Group | None:
    asked = strategy.placement_group_capture_child_tasks
    group = outer.group if (outer.captures if asked is None else asked) else None
    index = strategy.placement_group_bundle_index
    if index >= (0 if group is None else len(group[1])):
        has = "no placement group" if group is None else f"one with {len(group[1])} bundles"
        raise ValueError(f"placement_group_bundle_index={index}, and what submits it hands on {has}")
    return group


def placement_of(
    options: Mapping[str, Any], context: TaskContext, resources: ResourceSet, what: str
) -> Placement | None:
    """Return where a task with these options, which will run in `context`, is to be placed.

    Raises:
        ValueError: no bundle of its placement group can ever hold it.
    """
    strategy = strategy_of(options)
    if context.group is not None:
        identity, bundles = context.group
        index = getattr(strategy, "placement_group_bundle_index", -1)
        candidates = bundles if index < 0 else bundles[index : index + 1]
        if not any(resources.fits(bundle) for bundle in candidates):
            have = ", ".join(map(str, candidates))
            where = "of its placement group has" if index < 0 else f"{index} of its placement group has only"
            raise ValueError(
                f"{what} needs {resources}, and no bundle {where} that: {have}. Add it to a bundle, ask for "
                "less (num_cpus=0), or leave the group with PlacementGroupSchedulingStrategy(None)"
            )
        return InBundle(identity, index)
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        return OnNode(strategy.node_id, strategy.soft)
    if strategy == "SPREAD":
        return Spread()
    selectors = [options.get("label_selector")]
    selectors += [other["label_selector"] for other in options.get("fallback_strategy") or ()]
    if any(selectors):
        return WithLabels(tuple(selector_of(selector or {}) for selector in selectors))
    return None
