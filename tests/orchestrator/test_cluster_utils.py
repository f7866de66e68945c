"""Clusters of several nodes on this machine, as tests start them."""

from __future__ import annotations

import os

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster

pytestmark = pytest.mark.usefixtures("no_leaks")


@ray.remote
def where():
    return os.getppid()


@ray.remote
def total(array):
    return float(array.sum())


def test_tasks_run_on_all_nodes_and_what_was_put_is_read_there():
    with Cluster(initialize_head=True, connect=True) as cluster:
        cluster.add_node(resources={"there": 1})
        cluster.wait_for_nodes()
        assert ray.cluster_resources()["CPU"] == 2
        assert ray.cluster_resources()["node:__internal_head__"] == 1
        here = ray.get(where.options(resources={cluster.head_node.node_id: 0}).remote(), timeout=30)
        there = ray.get(where.options(resources={"there": 1}).remote(), timeout=30)
        assert here != there
        ref = ray.put(np.ones(1000_000))
        assert ray.get(total.options(resources={"there": 1}).remote(ref), timeout=30) == 1000_000
    assert not ray.is_initialized()
    assert cluster.list_all_nodes() == []


def test_nodes_come_and_go():
    with Cluster(initialize_head=True, connect=True) as cluster:
        second, third = cluster.add_node(), cluster.add_node()
        cluster.wait_for_nodes()
        with pytest.raises(ValueError, match="not a node of this cluster"):
            cluster.remove_node(object())
        cluster.remove_node(second)
        cluster.wait_for_nodes()
        cluster.remove_node(third, allow_graceful=False)
        cluster.wait_for_nodes()
        assert ray.get(where.remote(), timeout=30)
