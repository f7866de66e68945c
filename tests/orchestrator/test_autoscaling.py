"""Nodes come when something waits for them, and go when nothing keeps them: an autoscaler, for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.autoscaler.sdk import request_resources
from orchestrator.cluster import Cluster as Scale
from orchestrator.cluster_utils import AutoscalingCluster
from orchestrator.node.founding import ANNOUNCEMENT
from orchestrator.util.placement_group import placement_group, remove_placement_group
from tests.waiting import until

PATIENCE_S = 60.0
TYPES = {
    "small": {"resources": {"CPU": 1, "slot": 1}, "labels": {"kind": "small"}},
    "large": {"resources": {"CPU": 2, "disk": 2}, "labels": {"kind": "large"}, "max_workers": 2},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[AutoscalingCluster]:
    """A head that takes no work; nodes go after a second without any."""
    with AutoscalingCluster({"CPU": 0}, TYPES, max_workers=4, idle_timeout_s=1.0) as made:
        made.connect()
        yield made


@pytest.fixture(autouse=True)
def empty(cluster: AutoscalingCluster) -> Iterator[None]:
    """Begin and end without nodes."""
    yield
    request_resources()
    Scale().adapt(0, 4)
    until(lambda: not workers())


def workers() -> list[str]:
    """Return the kinds of the nodes that were started."""
    return sorted(kind for node in ray.nodes() if (kind := node["Labels"].get("kind")))


@ray.remote
def where() -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0)
class Holder:
    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


def test_what_fits_no_node_that_is_there_waits_for_one_that_is_started(cluster: AutoscalingCluster) -> None:
    assert not workers()
    assert ray.get(where.options(resources={"slot": 1}).remote(), timeout=PATIENCE_S)
    assert workers() == ["small"]


def test_labels_say_which_type(cluster: AutoscalingCluster) -> None:
    actor = Holder.options(label_selector={"kind": "large"}, num_cpus=1).remote()
    node = ray.get(actor.where.remote(), timeout=PATIENCE_S)
    assert workers() == ["large"]
    assert [one["NodeID"] for one in ray.nodes() if one["Labels"].get("kind")] == [node]
    # An actor keeps its node, however idle.
    del actor


def test_a_placement_group_gets_all_its_nodes(cluster: AutoscalingCluster) -> None:
    group = placement_group([{"disk": 1}, {"disk": 1}], strategy="STRICT_SPREAD")
    assert group.wait(PATIENCE_S)
    assert workers() == ["large", "large"]
    remove_placement_group(group)


def test_requested_resources_stay_however_idle_until_the_next_request(cluster: AutoscalingCluster) -> None:
    request_resources(num_cpus=2, bundles=[{"slot": 1}])
    until(lambda: ray.cluster_resources().get("CPU", 0) >= 2 and "small" in workers())
    first = workers()
    request_resources(bundles=[{"disk": 2}])
    until(lambda: workers() == ["large"])
    assert first


def test_scale_and_adapt(cluster: AutoscalingCluster) -> None:
    scale = Scale()
    scale.scale(2)
    until(lambda: len(workers()) == 2)
    scale.adapt(minimum=1, maximum=4)
    until(lambda: len(workers()) == 1)
    with pytest.raises(ValueError, match="minimum: must be at most"):
        scale.adapt(3, 2)


def test_a_result_that_somebody_holds_keeps_its_node(cluster: AutoscalingCluster) -> None:
    @ray.remote(resources={"slot": 1})
    def ones() -> np.ndarray:
        return np.ones(200_000)

    @ray.remote(resources={"disk": 1})
    def other() -> None:
        pass

    held = ones.remote()
    ray.wait([held], timeout=PATIENCE_S, fetch_local=False)
    ray.get(other.remote(), timeout=PATIENCE_S)
    # The node that holds nothing goes, the other stays.
    until(lambda: workers() == ["small"])
    assert ray.get(held, timeout=PATIENCE_S).sum() == 200_000


def test_a_head_that_is_started_anew_knows_its_nodes(cluster: AutoscalingCluster) -> None:
    Scale().scale(1)
    until(lambda: len(workers()) == 1)
    before = {node["NodeID"] for node in ray.nodes()}
    head = head_pid(cluster)
    os.kill(head, signal.SIGKILL)
    until(lambda: head_pid(cluster) != head)
    Scale().scale(2)
    until(lambda: len(workers()) == 2)
    assert before < {node["NodeID"] for node in ray.nodes()}
    Scale().scale(0)
    until(lambda: not workers())


def head_pid(cluster: AutoscalingCluster) -> int:
    pid: int = json.loads((Path(cluster.address) / ANNOUNCEMENT).read_text())["pid"]
    return pid


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"max_workers": -1}, "max_workers: must be an integer from 0"),
        ({"idle_timeout": 1}, "idle_timeout: there is no such setting"),
        ({"provider": {"type": "cloud"}}, "provider.type: must be one of"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AutoscalingCluster({"CPU": 1}, TYPES, **more).start()


@pytest.mark.parametrize("how", [{"num_cpus": 1}, {"mode": "inline"}])
def test_where_nobody_starts_nodes(how: dict[str, Any]) -> None:
    program = f"""
import orchestrator
from orchestrator.cluster import Cluster
orchestrator.init(**{how!r})
orchestrator.util.request_resources(num_cpus=3)
try:
    Cluster().scale(2)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert "request_resources() is without effect: nobody starts nodes here" in done.stderr
    assert "nobody starts nodes here" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_cpus": -1}, "num_cpus must be an integer"),
        ({"bundles": [{}]}, r"bundles\[0\]: must be a mapping of resources"),
        ({"bundles": [{"CPU": 1}], "bundle_label_selectors": []}, "0 of them for 1 bundles"),
    ],
)
def test_requests_that_make_no_sense(
    cluster: AutoscalingCluster, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        request_resources(**arguments)
