"""A task whose arguments lie on a node that is full: it is not passed by others for ever."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

import orchestrator as ray
from orchestrator.cluster_utils import Cluster
from orchestrator.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote
def pause(_: Any, duration_s: float = 0.0) -> str:
    time.sleep(duration_s)
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=1)
class Holder:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def test_others_of_its_kind_do_not_keep_it_from_the_only_free_worker() -> None:
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1}) as cluster:
        other = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        here = NodeAffinitySchedulingStrategy(cluster.head_node.node_id, False)
        holder = Holder.options(scheduling_strategy=here).remote()
        ray.get(holder.node.remote(), timeout=30)
        mine = ray.put(np.zeros(1 << 20))
        over = threading.Event()
        passed = 0

        def stream() -> None:
            nonlocal passed
            under_way = [pause.remote(1, 0.005) for _ in range(3)]
            while not over.is_set():
                ray.get(under_way.pop(0), timeout=30)
                under_way.append(pause.remote(1, 0.005))
                passed += 1
            ray.get(under_way, timeout=30)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for _ in range(3):
                assert ray.get(pause.remote(mine), timeout=30) == other.node_id
        finally:
            over.set()
            thread.join()
        assert passed
