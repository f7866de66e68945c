"""What ends with a node, elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.cluster_utils import Cluster
from tests.faults.standing_nodes import workers_of
from tests.waiting import until

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("no_leaks")]

#: One actor that is there, one that waits for room beside it, and a task.
PROGRAM = """
import sys, threading
import orchestrator as ray

@ray.remote(max_restarts=-1, resources={"there": 1})
class Actor:
    def there(self):
        return True

@ray.remote(max_retries=-1, num_cpus=0, resources={"task": 1})
def task():
    threading.Event().wait()

ray.init(sys.argv[1], log_to_driver=False)
first = Actor.remote()
ray.get(first.there.remote())
refs = [task.remote()]
second = Actor.remote()
refs.append(second.there.remote())
print("begun", flush=True)
ray.get(refs)
"""


def test_what_a_driver_has_begun_on_other_nodes_ends_with_the_driver_s_node() -> None:
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 1}) as cluster:
        there = cluster.add_node(num_cpus=2, resources={"there": 1, "task": 1})
        doomed = cluster.add_node(num_cpus=1)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, doomed.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"begun\n"
            until(lambda: len(workers_of(there.pid)) >= 2)
            doomed.kill()
            until(lambda: not workers_of(there.pid))
