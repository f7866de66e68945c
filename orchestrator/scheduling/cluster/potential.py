"""The types of nodes that an autoscaler could start, as they lie in the cluster's key-value store.

Nodes read them there, so that a demand which only such a node could serve waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from orchestrator.common.labels import check_labels
from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.view import NodeType

NAMESPACE, TYPES = "autoscaler", b"types"


def to_value(types: Iterable[NodeType]) -> bytes:
    """Return the value that says so."""
    return json.dumps([[one.name, one.total.to_floats(), dict(one.labels)] for one in types]).encode()


def from_value(value: bytes | None) -> list[NodeType]:
    """Return the types; none if nobody starts nodes.

    Raises:
        ValueError: the value makes no sense.
    """
    if value is None:
        return []
    try:
        return [
            NodeType(str(name), ResourceSet.from_floats(total), check_labels(labels, "labels"))
            for name, total, labels in json.loads(value)
        ]
    except (TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise ValueError(f"{value!r:.200} are no types of nodes: {exc}") from None
