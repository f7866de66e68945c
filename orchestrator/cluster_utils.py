"""A cluster on one machine, for tests: several nodes, each with processes and a store of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator.api.context import nodes
from orchestrator.api.session import init, shutdown
from orchestrator.common.labels import check_labels
from orchestrator.node.session_dir import runtime_root, standing_sessions

if TYPE_CHECKING:
    from orchestrator.api.session import Session
    from orchestrator.node.standing import Standing

#: What nodes get that end by themselves.
END_TIMEOUT_S = 30.0
#: Nodes of one cluster.
NODES_MAX = 60_000
#: What a node gets unless it is told otherwise.
STORE_BYTES = 256 << 20


class ClusterNode:
    """One node of a `Cluster`."""

    def __init__(
        self, standing: Standing, node_id: str, join: str, supervisor: subprocess.Popen[bytes]
    ) -> None:
        self._standing = standing
        self._supervisor = supervisor
        #: Its id, as `nodes()` and scheduling strategies name it.
        self.node_id = node_id
        self._join = join

    @property
    def address(self) -> str:
        """What `init` takes to attach a driver to this node."""
        return self._standing.path

    @property
    def pid(self) -> int:
        """Pid of its node process; 0 once that is gone."""
        return self._standing.node_pid

    def kill(self) -> None:
        """Kill its node process at once, as a machine that loses power would."""
        pid = self._standing.node_pid
        if pid:
            os.kill(pid, signal.SIGKILL)

    def _stop(self, *, force: bool) -> None:
        reaper = threading.Thread(target=self._supervisor.wait, name="cluster-node-reaper")
        reaper.start()  # an unreaped child would look alive
        self._standing.stop(force=force)
        reaper.join()

    def __repr__(self) -> str:
        return f"<node {self.node_id} at {self.address}>"


class Cluster:
    """Nodes on this machine, under a head of their own. All of it ends with this process, however that ends.

    Args:
        initialize_head: start the first node now, rather than with the first `add_node`.
        connect: attach this process as a driver as soon as there is a node.
        head_node_args: what `add_node` takes, for the first one.
        trusted_network: messages and objects between the nodes go in the clear.
        gcs_storage: where the head keeps its tables, as `orchestrator start --gcs-storage`.
        autoscaling: the configuration of an autoscaler, which starts further nodes; see docs/cluster.md.

    Raises:
        StartError: the node did not start.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        *,
        trusted_network: bool = False,
        gcs_storage: str = "",
        autoscaling: Mapping[str, Any] | None = None,
    ) -> None:
        self.head_node: ClusterNode | None = None
        self.worker_nodes: list[ClusterNode] = []
        self._connects = connect
        self._connected = False
        self._trusted = trusted_network
        self._storage = gcs_storage
        self._autoscaling = None if autoscaling is None else dict(autoscaling)
        self._root = ""
        if initialize_head:
            self.add_node(**(head_node_args or {}))

    @property
    def address(self) -> str:
        """What `init` takes to attach to the head's node."""
        if self.head_node is None:
            raise RuntimeError("the cluster has no node: add_node() first")
        return self.head_node.address

    def connect(self, namespace: str | None = None) -> Session:
        """Attach this process as a driver."""
        self._connected = True
        return init(self.address, namespace=namespace)

    def add_node(
        self,
        wait: bool = True,
        *,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        object_store_memory: int = STORE_BYTES,
        **node_args: Any,
    ) -> ClusterNode:
        """Start a node. The first one has the head.

        Args:
            wait: return when it belongs to the cluster; it always does.
            num_cpus, num_gpus, resources, labels, object_store_memory: as in `init`.
            node_args: accepted for the sake of tests written for Ray, and without effect.

        Raises:
            StartError: it did not start.
        """
        from orchestrator.node import standing
        from orchestrator.node.founding import ClusterOptions

        if not self._root:
            self._root = tempfile.mkdtemp(prefix="orchestrator-cluster-")
        quantities = {"CPU": float(num_cpus), **(resources or {})}
        if num_gpus is not None:
            quantities["GPU"] = float(num_gpus)
        join = self.head_node._join if self.head_node is not None else ""
        autoscaling = self._autoscaling if not join else None
        cluster = ClusterOptions(join, "127.0.0.1", 0, self._storage, self._trusted, autoscaling)
        facts, supervisor = standing.start_child(
            standing.Options(
                resources=quantities,
                labels=dict(check_labels(labels or {}, "add_node(labels=...)")),
                store_bytes=object_store_memory,
                root=self._root,
                cluster=cluster._asdict(),
            )
        )
        node = ClusterNode(
            standing.Standing(facts["session_dir"]), facts["node_id"], facts["join"], supervisor
        )
        if self.head_node is None:
            self.head_node = node
            if self._connects:
                self.connect()
        else:
            self.worker_nodes.append(node)
        return node

    def list_all_nodes(self) -> list[ClusterNode]:
        """Return the nodes, the head's first."""
        return [*([self.head_node] if self.head_node is not None else []), *self.worker_nodes]

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Return when this process, which must be attached, sees exactly the nodes that were added.

        Raises:
            TimeoutError: it does not within `timeout` seconds.
        """
        wanted = {node.node_id for node in self.list_all_nodes()}
        deadline = time.monotonic() + timeout
        while (seen := {node["NodeID"] for node in nodes()}) != wanted:
            if time.monotonic() > deadline:
                text = f"the nodes are {sorted(seen)} and not {sorted(wanted)} after {timeout:g} s"
                raise TimeoutError(text)
            time.sleep(0.01)

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node: in good order, or at once.

        Raises:
            ValueError: it is not this cluster's.
        """
        if node not in self.list_all_nodes():
            raise ValueError(f"{node!r} is not a node of this cluster")
        if node is self.head_node:
            self._disconnect()
            self.head_node = None
        else:
            self.worker_nodes.remove(node)
        node._stop(force=not allow_graceful)

    def shutdown(self) -> None:
        """End all nodes."""
        self._disconnect()
        for node in [*self.worker_nodes, *([self.head_node] if self.head_node is not None else [])]:
            node._stop(force=True)
        self.head_node, self.worker_nodes = None, []
        self._wait_for_started()
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = ""

    def _wait_for_started(self) -> None:
        """Wait for the nodes that the autoscaler had started: they end by themselves when the head has."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while self._root and self._autoscaling is not None and time.monotonic() < deadline:
            if not standing_sessions(runtime_root(self._root)):
                return
            time.sleep(0.01)

    def _disconnect(self) -> None:
        if self._connected:
            self._connected = False
            shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


class AutoscalingCluster:
    """A cluster on this machine whose nodes come and go as they are needed. It ends with this process.

    Args:
        head_resources: what the head's node has, like `{"CPU": 2}`.
        worker_node_types: `available_node_types` of the configuration, see docs/cluster.md.
        autoscaler_v2: accepted for the sake of tests written for Ray, and without effect.
        config: further settings, like `max_workers`, `idle_timeout_minutes`, `upscaling_speed`. Without
            `max_workers` there may be as many nodes as their types allow together.
    """

    def __init__(
        self,
        head_resources: Mapping[str, float],
        worker_node_types: Mapping[str, Mapping[str, Any]],
        autoscaler_v2: bool = False,
        **config: Any,
    ) -> None:
        config.setdefault("max_workers", min(NODES_MAX, sum(map(_most, worker_node_types.values()))))
        self._config = {
            "provider": {"type": "local"},
            "available_node_types": {name: dict(one) for name, one in worker_node_types.items()},
            **config,
        }
        self._head_resources = dict(head_resources)
        self._cluster: Cluster | None = None

    def start(self, _system_config: Any = None, override_env: Mapping[str, str] | None = None) -> None:
        """Start the head; the arguments are accepted for the sake of tests written for Ray.

        Raises:
            ConfigError: the configuration makes no sense.
            StartError: the head did not start.
        """
        from orchestrator.autoscaler.files import check

        check(self._config)
        cluster = Cluster(autoscaling=self._config)
        resources = dict(self._head_resources)
        cpus, gpus = resources.pop("CPU", 0.0), resources.pop("GPU", None)
        cluster.add_node(num_cpus=cpus, num_gpus=gpus, resources=resources)
        self._cluster = cluster

    @property
    def address(self) -> str:
        """What `init` takes to attach to the head's node."""
        return self._started().address

    def connect(self, namespace: str | None = None) -> Session:
        """Attach this process as a driver."""
        return self._started().connect(namespace)

    def _started(self) -> Cluster:
        if self._cluster is None:
            raise RuntimeError("the cluster is not started: start() first")
        return self._cluster

    def shutdown(self) -> None:
        """End all of it, and return when nothing is left."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.shutdown()

    def __enter__(self) -> AutoscalingCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def _most(node_type: Mapping[str, Any]) -> int:
    found = node_type.get("max_workers", NODES_MAX)
    return found if isinstance(found, int) else NODES_MAX
