"""Views of clusters, made by hand."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.view import ClusterView, NodeReport


def amounts(**quantities: float) -> ResourceSet:
    return ResourceSet.from_floats(quantities)


def report(
    number: int,
    total: Mapping[str, float],
    free: Mapping[str, float] | None = None,
    version: int = 1,
    labels: Mapping[str, str] | None = None,
    draining: bool = False,
) -> NodeReport:
    return NodeReport(
        number,
        f"{number:016x}",
        version,
        amounts(**total),
        amounts(**(total if free is None else free)),
        labels or {},
        draining,
    )


def view_of(*totals: Mapping[str, float], **more: object) -> ClusterView:
    """Nodes 1, 2, ... with these totals, all of it free."""
    view = ClusterView()
    for number, total in enumerate(totals, 1):
        view.report(report(number, total, **more))  # type: ignore[arg-type]
    return view
