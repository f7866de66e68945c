"""Where the running code is: `get_runtime_context()` and what the session has."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.api.session import ensure_runtime
from orchestrator.common.accelerators import VISIBLE_VARIABLES
from orchestrator.common.ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID
from orchestrator.core.actor_runtime import ActorExit
from orchestrator.core.history import name_of
from orchestrator.core.log_records import task_id
from orchestrator.core.runtime import Runtime, current, require

if TYPE_CHECKING:
    from orchestrator.api.actor_handle import ActorHandle
    from orchestrator.common.runtime_env import RuntimeEnv


class RuntimeContext:
    """Facts about the code that asks: its process, its task, its actor."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def _actor(self) -> Any:
        executor = self._runtime.executor
        return executor.actor if executor is not None else None

    def get_job_id(self) -> str:
        """Return the id of the job that this code works for; in a private session that is its name."""
        return str(self._runtime.info.get("job", self._runtime.session))

    @property
    def job_id(self) -> JobID:
        """`get_job_id` as an object."""
        return JobID.from_hex(self.get_job_id())

    @property
    def node_id(self) -> NodeID:
        """`get_node_id` as an object."""
        return NodeID.from_hex(self.get_node_id())

    @property
    def task_id(self) -> TaskID | None:
        """`get_task_id` as an object."""
        found = self.get_task_id()
        return None if found is None else TaskID.from_hex(found)

    @property
    def actor_id(self) -> ActorID | None:
        """`get_actor_id` as an object."""
        found = self.get_actor_id()
        return None if found is None else ActorID.from_hex(found)

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """`get_placement_group_id` as an object, the id of nothing (`is_nil()`) outside of groups."""
        return PlacementGroupID.from_hex(self.get_placement_group_id() or "")

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what this code submits runs in its placement group, unless it says otherwise."""
        return self._runtime.contexts.current.captures

    def get(self) -> dict[str, Any]:
        """Return `job_id`, `node_id` and `namespace`, and where there are such `task_id` and `actor_id`."""
        found = {"job_id": self.job_id, "node_id": self.node_id, "namespace": self.namespace}
        for name, identity in (("task_id", self.task_id), ("actor_id", self.actor_id)):
            if identity is not None:
                found[name] = identity
        return found

    def get_session_name(self) -> str:
        """Return the session's name."""
        return self._runtime.session

    def get_node_id(self) -> str:
        """Return the id of the node on which this process runs, in hexadecimal."""
        return self._runtime.node_id

    def get_worker_id(self) -> str:
        """Return this process's id: its node's index and its address in the store there, in hexadecimal."""
        return self._runtime.worker_id

    def get_pid(self) -> int:
        """Return this process's pid."""
        return os.getpid()

    def get_task_id(self) -> str | None:
        """Return the id of the running task, which is the id of its first result; None in a driver."""
        return task_id(self._runtime)

    def get_task_name(self) -> str | None:
        """Return the running task's `name=`, or the name of its function or method; None in a driver."""
        executor = self._runtime.executor
        if executor is not None and executor.circumstances.name is not None:
            return str(executor.circumstances.name)
        return self.get_task_function_name()

    def get_task_function_name(self) -> str | None:
        """Return the qualified name of the running function or method; None in a driver."""
        executor = self._runtime.executor
        if executor is None:
            return None
        function = executor.current_function if executor.actor is None else executor.actor.calling()[1]
        return None if function is None else name_of(function)

    def get_actor_id(self) -> str | None:
        """Return the id of the actor this code runs in, if any."""
        actor = self._actor
        return actor.actor_id.hex() if actor is not None else None

    def get_actor_name(self) -> str | None:
        """Return the name of the actor this code runs in, if it has one."""
        actor = self._actor
        return actor.name if actor is not None else None

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the ids of the devices that the running task or actor was given, by kind."""
        executor = self._runtime.executor
        given = executor.circumstances.devices.ids if executor is not None else {}
        return {kind: list(given.get(kind, ())) for kind in VISIBLE_VARIABLES}

    #: As programs of Ray's earlier days have it.
    get_resource_ids = get_accelerator_ids

    def get_assigned_resources(self) -> dict[str, float]:
        """Return what the running task or actor holds; empty for a driver, or an actor that holds nothing."""
        executor = self._runtime.executor
        return dict(executor.circumstances.resources) if executor is not None else {}

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of the node: what `init` was given, and what the node knows of itself."""
        answer = self._runtime.node.ask({"op": "resources"})
        return dict(answer.get("labels") or self._runtime.info.get("labels") or {})

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group that the running task or actor is in, if any."""
        group = self._runtime.contexts.current.group
        return group[0] if group is not None else None

    @property
    def runtime_env(self) -> RuntimeEnv:
        """What tasks and actors inherit from this code; paths are those of the copies."""
        from orchestrator.common.runtime_env import RuntimeEnv
        from orchestrator.environments.resolved import describe

        return RuntimeEnv.trusted(describe(self._runtime.environment.inherited()))

    def get_runtime_env_string(self) -> str:
        """Return `runtime_env` as JSON."""
        return json.dumps(self.runtime_env)

    def get_temp_dir(self) -> str:
        """Return the directory in which the session's own lies."""
        return os.path.dirname(str(self._runtime.info["session_dir"]))

    @property
    def gcs_address(self) -> str:
        """Where the cluster's control store listens: nowhere, as the session is this machine's own."""
        return "local"

    @property
    def namespace(self) -> str:
        """Where named actors are looked up."""
        return str(self._runtime.info.get("namespace") or "")

    @property
    def current_actor(self) -> ActorHandle:
        """A handle of the actor this code runs in.

        Raises:
            RuntimeError: it runs in no actor.
        """
        from orchestrator.api.actor_handle import rebuild_handle

        actor = self._actor
        if actor is None:
            raise RuntimeError("this code does not run in an actor")
        return rebuild_handle(actor.actor_id)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor this code runs in has been restarted: its constructor has run before.

        Raises:
            RuntimeError: it runs in no actor.
        """
        actor = self._actor
        if actor is None:
            raise RuntimeError("this code does not run in an actor")
        return bool(actor.reconstructed)

    def is_canceled(self) -> bool:
        """Tell whether somebody has cancelled the running call: a method may look and stop."""
        executor = self._runtime.executor
        if executor is None:
            return False
        if executor.actor is not None:
            return bool(executor.actor.is_cancelled())
        return executor.running in executor.cancelled


def get_runtime_context() -> RuntimeContext:
    """Return facts about the code that asks."""
    return RuntimeContext(ensure_runtime())


def get_gpu_ids() -> list[int] | list[str]:
    """Return the ids of the GPUs that the running task or actor was given; numbers, where they are such."""
    ids = get_runtime_context().get_accelerator_ids()["GPU"]
    return [int(one) for one in ids] if all(one.isdigit() for one in ids) else ids


def exit_actor() -> None:
    """End the actor this is called in, after the calls that are under way.

    Raises:
        TypeError: called outside an actor.
    """
    runtime = current()
    if runtime is None or runtime.executor is None or runtime.executor.actor is None:
        raise TypeError("exit_actor() is called inside an actor's method")
    raise ActorExit


def get_node_ip_address(address: str = "8.8.8.8:53") -> str:
    """Return the address of this node, as `nodes()` has it; without a session, of this machine.

    Args:
        address: without a session: the address from where this machine is seen; nothing is sent there.
    """
    runtime = current()
    if runtime is not None and runtime.open:
        return next(str(node["host"]) for node in _all_nodes() if node["node"] == runtime.node_id)
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
        except OSError:
            return "127.0.0.1"  # it is in no network
        return str(probe.getsockname()[0])


def nodes() -> list[dict[str, Any]]:
    """Return the facts about each node: id, whether it is alive, address, resources, labels.

    Like `cluster_resources` and `available_resources` it starts no session.

    Raises:
        SessionError: there is no session.
    """
    return [
        {
            "NodeID": node["node"],
            "Alive": node["alive"],
            "alive": node["alive"],
            "NodeManagerAddress": node["host"],
            "NodeManagerHostname": node["hostname"],
            "NodeName": node["host"],
            "Resources": node["total"],
            "Labels": node["labels"],
        }
        for node in _all_nodes()
    ]


def _all_nodes() -> list[dict[str, Any]]:
    """Return what the node knows of each node of the cluster; of a session of one machine, that one."""
    runtime = require()
    answer = runtime.node.ask({"op": "resources"})
    found: list[dict[str, Any]] = answer.get("nodes") or []
    labels = answer.get("labels") or runtime.info.get("labels") or {}
    return found or [
        {
            "node": runtime.node_id,
            "alive": True,
            "host": "127.0.0.1",
            "hostname": socket.gethostname(),
            "total": dict(answer["total"]),
            "available": dict(answer["available"]),
            "labels": dict(labels),
        }
    ]


def _sum(quantities: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in quantities:
        for name, amount in one.items():
            total[name] = round(total.get(name, 0.0) + amount, 4)
    return total


def cluster_resources() -> dict[str, float]:
    """Return what the session has in total, over all nodes.

    Raises:
        SessionError: there is no session.
    """
    return _sum(node["total"] for node in _all_nodes() if node["alive"])


def available_resources() -> dict[str, float]:
    """Return what nobody holds at this moment; of other nodes, as they have last reported it.

    Raises:
        SessionError: there is no session.
    """
    found = _sum(node["available"] for node in _all_nodes() if node["alive"])
    return {name: amount for name, amount in found.items() if amount}
