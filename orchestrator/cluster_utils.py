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

if TYPE_CHECKING:
    from orchestrator.api.session import Session
    from orchestrator.node.standing import Standing

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
    ) -> None:
        self.head_node: ClusterNode | None = None
        self.worker_nodes: list[ClusterNode] = []
        self._connects = connect
        self._connected = False
        self._trusted = trusted_network
        self._storage = gcs_storage
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
        cluster = ClusterOptions(join, "127.0.0.1", 0, self._storage, self._trusted)
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
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = ""

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
