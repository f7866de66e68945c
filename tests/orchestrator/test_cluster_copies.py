"""Copies of objects on nodes that needed them: they stay for the next task, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.core.runtime import require
from orchestrator.experimental import get_local_object_locations
from tests.waiting import until

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes; the second one has a store of 64 MiB."""
    with Cluster(initialize_head=True, connect=True) as made:
        made.add_node(resources={"there": 10}, object_store_memory=64 * MIB)
        made.wait_for_nodes()
        yield made


@ray.remote(num_cpus=0, resources={"there": 0.1})
def first_of(array: Any) -> float:
    return float(array[0])


@ray.remote(num_cpus=0, resources={"there": 0.1})
def is_there(boxed: list[Any]) -> bool:
    return bool(get_local_object_locations(boxed)[boxed[0]]["node_ids"])


@ray.remote(num_cpus=0, resources={"there": 0.1})
def used_bytes() -> int:
    return require().store.stats()["used_bytes"]


@ray.remote(num_cpus=0, resources={"there": 0.1})
def megabytes(count: int) -> Any:
    return np.zeros(count * MIB, np.uint8)


def get(ref: Any) -> Any:
    return ray.get(ref, timeout=30)


def test_the_next_task_finds_it_there(cluster: Cluster) -> None:
    mine = ray.put(np.ones(MIB))
    assert not get(is_there.remote([mine]))
    for _ in range(3):
        assert get(first_of.remote(mine)) == 1.0
        assert get(is_there.remote([mine]))


def test_it_goes_with_the_object(cluster: Cluster) -> None:
    mine = ray.put(np.ones(MIB))
    get(first_of.remote(mine))
    assert get(used_bytes.remote()) > 8 * MIB
    del mine
    until(lambda: get(used_bytes.remote()) < MIB)


def test_it_goes_when_others_need_the_room(cluster: Cluster) -> None:
    mine = ray.put(np.ones(MIB))
    get(first_of.remote(mine))
    assert get(is_there.remote([mine]))
    large = megabytes.remote(44)
    until(lambda: not get(is_there.remote([mine])))
    assert get(first_of.remote(mine)) == 1.0
    assert get(large).size == 44 * MIB


def test_one_that_is_large_for_the_store_does_not_stay(cluster: Cluster) -> None:
    mine = ray.put(np.ones(3 * MIB))
    assert get(first_of.remote(mine)) == 1.0
    until(lambda: not get(is_there.remote([mine])))
    assert get(first_of.remote(mine)) == 1.0
