from __future__ import annotations

from typing import Any

import pytest

from orchestrator.autoscaler.config import ConfigError
from orchestrator.autoscaler.demand import Shape
from orchestrator.autoscaler.wishes import (
    limits_from_value,
    limits_to_value,
    requests_from_value,
    requests_to_value,
)
from orchestrator.common.resources import ResourceSet

CPU = ResourceSet.from_floats({"CPU": 1})


def test_limits_come_back() -> None:
    assert limits_from_value(limits_to_value(2, 5)) == (2, 5)
    assert limits_from_value(None) is None


def test_requests_come_back() -> None:
    value = requests_to_value([{"CPU": 1}, {"CPU": 1}], [{"zone": "a"}])
    assert requests_from_value(value) == [Shape(CPU, ((("zone", "a"),),)), Shape(CPU)]
    many = requests_to_value([{"CPU": 1}] * 10_000)
    assert len(many) < 100 and requests_from_value(many) == [Shape(CPU)] * 10_000
    assert requests_from_value(None) == [] == requests_from_value(requests_to_value([]))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ((3, 2), "minimum: must be at most"),
        ((-1, 2), "minimum: must be an"),
        ((0, 1.5), "maximum: must be an"),
    ],
)
def test_limits_that_are_none(limits: tuple[Any, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        limits_to_value(*limits)


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b"[1]", b'["1", 2]', b"[2, 1]"])
def test_values_that_are_no_limits(value: bytes) -> None:
    with pytest.raises(ConfigError):
        limits_from_value(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[1]",
        b"[[1, 2]]",
        b'[[{"CPU": -1}, {}, 1]]',
        b'[[{"CPU": 1}, {"a": "?"}, 1]]',
        b'[[{"CPU": 1}, {}, 0]]',
        b'[[{"CPU": 1}, {}, 1000000]]',
    ],
)
def test_values_that_are_no_requests(value: bytes) -> None:
    with pytest.raises(ConfigError):
        requests_from_value(value)


def test_more_selectors_than_bundles() -> None:
    with pytest.raises(ConfigError, match="2 of them for 1 bundles"):
        requests_to_value([{"CPU": 1}], [{}, {}])
