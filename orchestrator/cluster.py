"""The cluster that this process is attached to, as something to be made larger or smaller.

cluster = orchestrator.cluster.Cluster()
cluster.scale(10)                      # just so many nodes, beside the head's
cluster.adapt(minimum=0, maximum=100)  # as many as there is work for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.context import nodes
from orchestrator.util import scaling

__all__ = ["Cluster"]


class Cluster:
    """See the module's text. The process must be attached, by `init`; what was said outlives it."""

    def scale(self, n: int) -> None:
        """Have just so many nodes, beside the head's.

        Raises:
            ValueError: it makes no sense.
            RuntimeError: nobody starts nodes in this cluster.
        """
        scaling.scale(n)

    def adapt(self, minimum: int, maximum: int) -> None:
        """Have as many nodes as there is work for, within limits, beside the head's.

        Raises:
            ValueError: it makes no sense.
            RuntimeError: nobody starts nodes in this cluster.
        """
        scaling.adapt(minimum, maximum)

    def request_resources(
        self, num_cpus: int | None = None, bundles: Sequence[Mapping[str, float]] | None = None
    ) -> None:
        """Say what the cluster is to have in total; see `orchestrator.util.request_resources`."""
        scaling.request_resources(num_cpus, bundles)

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that there are now, the head's among them, as `orchestrator.nodes()` does."""
        return nodes()
