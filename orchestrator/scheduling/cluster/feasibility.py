"""Which nodes could ever serve a request, and, if none could, what is missing."""

from __future__ import annotations

import numpy as np

from orchestrator.common.accelerators import VISIBLE_VARIABLES
from orchestrator.common.labels import matches
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import OnNode, Placement, SchedulingClass, WithLabels
from orchestrator.scheduling.cluster.view import ClusterView, Mask, NodeType
from orchestrator.scheduling.events import INFEASIBLE, UNSCHEDULABLE


def needs_accelerator(resources: ResourceSet) -> bool:
    """Tell whether devices are asked for that only some nodes have."""
    return any(resources[name] for name in VISIBLE_VARIABLES)


def feasible_rows(view: ClusterView, resources: ResourceSet, placement: Placement | None) -> Mask:
    """Return the rows that could serve a request if they were empty; draining ones cannot."""
    everywhere = view.open_rows()
    if isinstance(placement, OnNode):
        index = view.index_of(placement.node)
        row = None if index is None else view.row_of(index)
        only = np.zeros(view.rows_used, np.bool_)
        if row is not None:
            only[row] = True
        mask = view.feasible(resources, everywhere & only)
        return mask if mask.any() or not placement.soft else view.feasible(resources, everywhere)
    if isinstance(placement, WithLabels):
        for selector in placement.selectors:
            mask = view.feasible(resources, view.matching(selector, everywhere))
            if mask.any():
                return mask
        return np.zeros(view.rows_used, np.bool_)
    return view.feasible(resources, everywhere).copy()


def can_be_started(view: ClusterView, scheduling: SchedulingClass) -> NodeType | None:
    """Return a type of node that is not there, and could be started to serve this; None if there is none."""
    place = scheduling.placement
    if isinstance(place, OnNode) and not place.soft:
        return None
    for one in view.potential:
        if scheduling.resources.fits(one.total) and (
            not isinstance(place, WithLabels) or any(matches(s, one.labels) for s in place.selectors)
        ):
            return one
    return None


def objection(view: ClusterView, scheduling: SchedulingClass) -> tuple[str, str] | None:
    """Return (verdict, cause) if no node of the cluster could ever serve this.

    The cause is for people, and begins with "it". What type of node could be started is another question
    (`can_be_started`).
    """
    resources, place = scheduling.resources, scheduling.placement
    if feasible_rows(view, resources, place).any():
        return None
    if isinstance(place, OnNode) and not place.soft:
        return _objection_of_node(view, place, resources)
    nodes = [report for report in view if not report.draining]
    leaving = len(view) - len(nodes)
    if isinstance(place, WithLabels):
        nodes = [one for one in nodes if any(matches(s, one.labels) for s in place.selectors)]
        if not nodes:
            wanted = " or ".join(str(dict(selector)) for selector in place.selectors)
            return (
                UNSCHEDULABLE,
                f"it needs a node with labels that match {wanted}, and {_none_of(view, wanted)}",
            )
    if not nodes:
        return (
            INFEASIBLE,
            f"it needs {resources}, and the cluster has no node that takes new work{_but(leaving)}",
        )
    nearest = min(nodes, key=lambda one: (_missing(resources, one.total), one.node))
    which = "matching node" if isinstance(place, WithLabels) else "node"
    count = f"the only {which}" if len(nodes) == 1 else f"none of the {len(nodes)} {which}s has that;"
    lacks = ", ".join(
        f"{name} {nearest.total[name] / 10_000:g} of {resources[name] / 10_000:g}"
        for name in sorted(resources)
        if nearest.total[name] < resources[name]
    )
    where = (
        f"{count} {nearest.node_id} has"
        if len(nodes) == 1
        else f"{count} {nearest.node_id} comes nearest with"
    )
    return INFEASIBLE, f"it needs {resources}: {where} {lacks} in total{_but(leaving)}"


def _objection_of_node(view: ClusterView, place: OnNode, resources: ResourceSet) -> tuple[str, str]:
    index = view.index_of(place.node)
    report = None if index is None else view.get(index)
    if report is None:
        return (
            UNSCHEDULABLE,
            f"it needs node {place.node}, which is not in the cluster: it has left, or never was",
        )
    if report.draining:
        return UNSCHEDULABLE, f"it needs node {place.node}, which is draining and takes nothing new"
    have = report.total.within({"CPU", "GPU", *resources})
    return UNSCHEDULABLE, f"it needs {resources} on node {place.node}, which has {have} in total"


def _none_of(view: ClusterView, wanted: str) -> str:
    keys = sorted({key for report in view for key in report.labels})
    return f"none of the {len(view)} nodes has; labels that nodes have: {', '.join(keys) or 'none'}"


def _but(leaving: int) -> str:
    return f" ({leaving} that drain are not counted)" if leaving else ""


def _missing(resources: ResourceSet, total: ResourceSet) -> float:
    """Return how far a node is from what is needed: the shares that are missing, added up."""
    return sum(max(0, resources[name] - total[name]) / resources[name] for name in resources)


def where_it_waits(view: ClusterView, scheduling: SchedulingClass) -> str:
    """Return, for people, which nodes could serve this and which lacks least at this moment."""
    resources = scheduling.resources
    rows = np.flatnonzero(feasible_rows(view, resources, scheduling.placement)).tolist()
    if not rows:
        kind = can_be_started(view, scheduling)
        return "no node has that" + (f"; one of type {kind.name!r} could be started" if kind else "")
    found = [(index, view.free(index)) for index in map(view.index_at, rows)]
    index, free = min(found, key=lambda one: (_missing(resources, one[1]), one[0]))
    nearest = view.get(index)
    assert nearest is not None
    could = f"{len(rows)} of {len(view)} nodes could serve it"
    return f"{could}; {nearest.node_id} comes nearest, with {free.within(resources)} free"
