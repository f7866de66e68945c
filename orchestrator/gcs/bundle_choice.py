"""Chooses nodes for placement groups with the scheduler's own packing (`scheduling.cluster.bundles`).

That works on a view of the cluster in numpy arrays; here it is kept up to date from the nodes as the head has
them. It is made when the first group comes: a head without groups needs no numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs.messages import NodeView
from orchestrator.gcs.placement_groups import NoRoom, Wish

if TYPE_CHECKING:
    from orchestrator.scheduling.cluster.view import ClusterView


class BundleChoice:
    """The `Choose` of a head."""

    def __init__(self) -> None:
        self._view: ClusterView | None = None
        #: What each node was last reported with.
        self._reported: dict[int, tuple[ResourceSet, ResourceSet, dict[str, str]]] = {}
        self._reports_count = 0

    def __call__(
        self, wish: Wish, nodes: Sequence[NodeView], promised: Mapping[int, ResourceSet]
    ) -> list[int] | NoRoom:
        """Return a node for each bundle of the wish, or why there is none."""
        from orchestrator.scheduling.cluster import bundles

        view = self._updated(nodes, promised)
        spec = wish.spec
        wanted = [spec.bundles[bundle] for bundle in wish.bundles]
        selectors = [
            tuple(spec.selectors[bundle].conditions.items()) if bundle < len(spec.selectors) else ()
            for bundle in wish.bundles
        ]
        found = bundles.choose(wanted, spec.strategy, view, selectors, wish.occupied)
        return NoRoom(found.cause, found.never) if isinstance(found, bundles.Refusal) else found

    def _updated(self, nodes: Sequence[NodeView], promised: Mapping[int, ResourceSet]) -> ClusterView:
        from orchestrator.scheduling.cluster.view import ClusterView, NodeReport

        if self._view is None:
            self._view = ClusterView()
        for gone in self._reported.keys() - {node.node for node in nodes}:
            self._view.remove(gone)
            del self._reported[gone]
        for node in nodes:
            taken = promised.get(node.node)
            free = node.available if taken is None else _less(node.available, taken)
            news = (node.total, free, node.labels)
            if self._reported.get(node.node) != news:
                self._reports_count += 1
                self._reported[node.node] = news
                report = NodeReport(
                    node.node, node.node_id, self._reports_count, node.total, free, node.labels
                )
                self._view.report(report)
        return self._view


def _less(free: ResourceSet, taken: ResourceSet) -> ResourceSet:
    left = free.subtract(taken)
    return ResourceSet({name: max(left[name], 0) for name in left})
