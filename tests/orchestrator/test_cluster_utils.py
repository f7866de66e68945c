"""A cluster of one node, as tests written for Ray start it."""

from __future__ import annotations

import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster


@pytest.mark.usefixtures("no_leaks")
def test_its_node_is_the_session():
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 3}) as cluster:
        assert ray.cluster_resources()["CPU"] == 3
        assert cluster.list_all_nodes() == [cluster.head_node]
        cluster.wait_for_nodes()
        with pytest.raises(NotImplementedError, match="one node so far"):
            cluster.add_node(num_cpus=1)
    assert not ray.is_initialized()
    assert cluster.list_all_nodes() == []


@pytest.mark.usefixtures("no_leaks")
def test_a_node_comes_and_goes():
    cluster = Cluster(connect=True)
    assert not ray.is_initialized()
    node = cluster.add_node(num_cpus=1)
    assert ray.is_initialized()
    with pytest.raises(ValueError, match="not a node of this cluster"):
        cluster.remove_node(object())
    cluster.remove_node(node)
    assert not ray.is_initialized()


def test_a_node_that_nobody_is_connected_to():
    with pytest.raises(NotImplementedError, match="connect=True"):
        Cluster(initialize_head=True)
