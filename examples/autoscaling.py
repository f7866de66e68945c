"""A cluster on this machine that grows with its work, and shrinks again.

python examples/autoscaling.py
"""

from __future__ import annotations

import time

import orchestrator
from orchestrator.cluster import Cluster
from orchestrator.cluster_utils import AutoscalingCluster


@orchestrator.remote(num_cpus=1)
def work(seconds: float) -> str:
    time.sleep(seconds)
    return orchestrator.get_runtime_context().get_node_id()


def workers() -> int:
    return len(orchestrator.nodes()) - 1  # without the head's


def wait_for(count: int) -> None:
    while workers() != count:
        time.sleep(0.1)
    print(f"{count} nodes beside the head's")


def main() -> None:
    small = {"resources": {"CPU": 1}}
    with AutoscalingCluster({"CPU": 0}, {"small": small}, max_workers=3, idle_timeout_s=1.0) as cluster:
        cluster.connect()
        wait_for(0)
        where = orchestrator.get([work.remote(1.0) for _ in range(6)])
        print(f"6 tasks ran on {len(set(where))} nodes that were started for them")
        wait_for(0)
        Cluster().scale(2)
        wait_for(2)
        Cluster().adapt(minimum=0, maximum=3)
        wait_for(0)


if __name__ == "__main__":
    main()
