from __future__ import annotations

from typing import Any

import pytest

from orchestrator.autoscaler.config import AutoscalerConfig, ConfigError, check_requests, parse_config
from orchestrator.common.resources import ResourceSet

SMALL = {"resources": {"CPU": 4}, "min_workers": 1, "max_workers": 3}


def config(**changes: Any) -> dict[str, Any]:
    return {"max_workers": 10, "available_node_types": {"small": dict(SMALL)}, **changes}


def test_a_whole_one() -> None:
    made = parse_config(
        config(
            cluster_name="lab",
            upscaling_speed=2,
            idle_timeout_minutes=5,
            provider={"type": "local", "dir": "x"},
            available_node_types={
                "small": {**SMALL, "labels": {"zone": "a"}, "idle_timeout_s": 7, "priority": 3},
                "gpu": {"resources": {"CPU": 8, "GPU": 1}, "node_config": {"image": "y"}},
            },
        )
    )
    small, gpu = made.node_types["small"], made.node_types["gpu"]
    assert (small.min_workers, small.max_workers, small.priority) == (1, 3, 3)
    assert gpu.resources == ResourceSet.from_floats({"CPU": 8, "GPU": 1}) and gpu.node_config == {
        "image": "y"
    }
    assert (made.idle_timeout_of("small"), made.idle_timeout_of("gpu")) == (7, 300)
    assert made.provider == {"type": "local", "dir": "x"}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "the configuration: must be a mapping, not []"),
        ({1: 2}, "the configuration: names must be text, not 1"),
        ({"max_workers": 1}, "available_node_types: is missing"),
        (config(available_node_types={}), "available_node_types: must be at least one type of node"),
        (
            config(max_worker=1),
            "max_worker: there is no such setting; known are available_node_types, cluster",
        ),
        (config(max_workers="many"), "max_workers: must be an integer from 0 to 60000, not 'many'"),
        (config(max_workers=True), "max_workers: must be an integer"),
        (config(max_workers=0), "max_workers: must be at least the sum of all min_workers (1), not 0"),
        (config(min_workers=11), "min_workers: must be at most max_workers (10), not 11"),
        (config(upscaling_speed=-1), "upscaling_speed: must be a finite number, 0 or more, not -1"),
        (config(upscaling_speed=float("nan")), "upscaling_speed: must be a finite number"),
        (config(idle_timeout_s=1, idle_timeout_minutes=1), "give one of them"),
        (config(provider={"kind": "local"}), "provider: must be a mapping with the name 'type'"),
        (config(cluster_name=""), "cluster_name: must be a text, not ''"),
    ],
)
def test_nonsense_at_the_top(found: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(found)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resources": {}}, ".small.resources: must be what such a node has, like {'CPU': 4}, not {}"),
        ({"resources": {"CPU": "4"}}, ".small.resources.CPU: must be a number, not '4'"),
        ({"resources": {"CPU": -4}}, ".small.resources: resource 'CPU': -4 is not a finite number >= 0"),
        ({"min_workers": 5}, ".small.min_workers: must be at most its max_workers (3), not 5"),
        ({"labels": {"a b": "c"}}, ".small.labels: 'a b' is no name of a label"),
        ({"labels": {"a": 1}}, ".small.labels must be a dict of text to text"),
        ({"minworkers": 5}, ".small.minworkers: there is no such setting"),
    ],
)
def test_nonsense_in_a_node_type(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config(available_node_types={"small": {**SMALL, **changes}}))
    assert f"available_node_types{says}" in str(caught.value)


def test_other_limits() -> None:
    made = parse_config(config())
    assert (made.within(2, 5).min_workers, made.within(2, 5).max_workers) == (2, 5)
    for low, high in ((3, 2), (-1, 2), (0, 10**6)):
        with pytest.raises(ConfigError):
            made.within(low, high)
    assert isinstance(made, AutoscalerConfig)


def test_requests() -> None:
    assert check_requests([{"CPU": 1}]) == [ResourceSet.from_floats({"CPU": 1})]
    for wrong, says in (
        ([{}], "bundles[0]: must be"),
        ([{"CPU": 1}, {"CPU": -1}], "bundles[1]: resource 'CPU'"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_requests(wrong)
        assert says in str(caught.value)
