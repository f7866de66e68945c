from __future__ import annotations

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.potential import from_value, to_value
from orchestrator.scheduling.cluster.view import NodeType


def test_types_come_back() -> None:
    types = [NodeType("small", ResourceSet.from_floats({"CPU": 0.5}), {"zone": "a"})]
    assert from_value(to_value(types)) == types
    assert from_value(None) == [] == from_value(to_value([]))


@pytest.mark.parametrize("value", [b"", b"{", b"[1]", b'[["a", 1, {}]]', b'[["a", {"CPU": -1}, {}]]', b"7"])
def test_values_that_are_none(value: bytes) -> None:
    with pytest.raises(ValueError, match="are no types of nodes"):
        from_value(value)
