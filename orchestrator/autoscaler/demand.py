"""What the cluster lacks, as a few shapes with counts: a million tasks alike are one line.

A *shape* is what one worker, actor or bundle needs of one node. Three kinds of demand are told apart,
because they are met differently:

=========  ====================================================================================
pending    tasks and actors that wait. They may run one after the other, so some of them on new
           nodes are as good as all; they compete for what is free
groups     placement groups that wait. All bundles of one, or none
requested  by `request_resources`: what the cluster is to have in total, busy or not, until the
           next call says something else
=========  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.common.labels import matches
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, OnNode, SchedulingClass, WithLabels

Selector = tuple[tuple[str, str], ...]


class Shape(NamedTuple):
    """What is needed of one node."""

    resources: ResourceSet
    #: Conditions on its labels, of which one has to be met; none: anywhere.
    selectors: tuple[Selector, ...] = ()

    def admits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with these labels would do."""
        return not self.selectors or any(matches(one, labels) for one in self.selectors)

    def __str__(self) -> str:
        where = " or ".join(str(dict(one)) for one in self.selectors)
        return f"{self.resources}" + (f" on a node with {where}" if where else "")


class Group(NamedTuple):
    """A placement group that waits."""

    strategy: str
    bundles: tuple[Shape, ...]


class Demand(NamedTuple):
    """Everything that is wanted at one moment."""

    pending: tuple[tuple[Shape, int], ...] = ()
    groups: tuple[Group, ...] = ()
    requested: tuple[tuple[Shape, int], ...] = ()


def shape_of(scheduling: SchedulingClass) -> Shape | None:
    """Return what a class needs of a node; None if no new node could serve it."""
    place = scheduling.placement
    if isinstance(place, InBundle) or (isinstance(place, OnNode) and not place.soft):
        return None
    return Shape(scheduling.resources, place.selectors if isinstance(place, WithLabels) else ())


def demand_of(
    waiting: Iterable[tuple[SchedulingClass, int]],
    groups: Iterable[Group] = (),
    requested: Iterable[Shape] = (),
) -> Demand:
    """Return the demand that nodes (`LeaseRouter.waiting`), groups and requests make up together."""
    pending: dict[Shape, int] = {}
    for scheduling, count in waiting:
        shape = shape_of(scheduling)
        # What needs nothing runs anywhere.
        if shape is not None and shape.resources and count > 0:
            pending[shape] = pending.get(shape, 0) + count
    asked: dict[Shape, int] = {}
    for shape in requested:
        asked[shape] = asked.get(shape, 0) + 1
    return Demand(tuple(pending.items()), tuple(groups), tuple(asked.items()))
