"""Where a program finds the names: at the same paths as in Ray."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import orchestrator

PATHS = {
    "orchestrator.actor": ["ActorHandle", "exit_actor", "method"],
    "orchestrator.cloudpickle": ["dumps", "loads", "register_pickle_by_value"],
    "orchestrator.cluster_utils": ["Cluster"],
    "orchestrator.dag": ["InputNode", "MultiOutputNode"],
    "orchestrator.dag.input_node": ["InputAttributeNode", "InputNode"],
    "orchestrator.dag.output_node": ["MultiOutputNode"],
    "orchestrator.exceptions": ["RayActorError", "RayError", "RayTaskError", "TaskError"],
    "orchestrator.experimental.internal_kv": ["_internal_kv_get", "_internal_kv_put"],
    "orchestrator.experimental.tqdm_ray": ["safe_print", "tqdm"],
    "orchestrator.remote_function": ["RemoteFunction"],
    "orchestrator.runtime_context": ["RuntimeContext", "get_runtime_context"],
    "orchestrator.types": ["ObjectRef"],
    "orchestrator.util": [
        "ActorPool",
        "as_completed",
        "deregister_serializer",
        "disable_log_once_globally",
        "enable_periodic_logging",
        "get_current_placement_group",
        "get_placement_group",
        "inspect_serializability",
        "list_named_actors",
        "log_once",
        "map_unordered",
        "placement_group",
        "placement_group_table",
        "register_serializer",
        "remove_placement_group",
    ],
    "orchestrator.util.actor_pool": ["ActorPool"],
    "orchestrator.util.check_serialize": ["FailureTuple", "inspect_serializability"],
    "orchestrator.util.debug": ["log_once", "reset_log_once"],
    "orchestrator.util.helpers": ["as_completed", "map_unordered"],
    "orchestrator.util.joblib": ["register_ray"],
    "orchestrator.util.metrics": ["Counter", "Gauge", "Histogram"],
    "orchestrator.util.multiprocessing": ["Pool"],
    "orchestrator.util.placement_group": ["placement_group", "remove_placement_group"],
    "orchestrator.util.queue": ["Empty", "Full", "Queue"],
    "orchestrator.util.rpdb": ["set_trace"],
    "orchestrator.util.scheduling_strategies": [
        "NodeAffinitySchedulingStrategy",
        "PlacementGroupSchedulingStrategy",
    ],
    "orchestrator.util.state": ["list_actors", "list_tasks"],
}


@pytest.mark.parametrize("path", PATHS)
def test_a_module_has_its_names(path: str) -> None:
    module = importlib.import_module(path)
    assert [name for name in PATHS[path] if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", ["orchestrator", "orchestrator.util"])
def test_everything_public_is_there_without_further_imports(module: str) -> None:
    """`import orchestrator as ray; ray.util.queue.Queue` works, whatever was imported before."""
    code = (
        f"import {module} as m, sys; "
        "missing = [name for name in m.__all__ if not hasattr(m, name)]; "
        "assert not missing, missing; assert set(m.__all__) <= set(dir(m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", [orchestrator, orchestrator.util])
def test_a_name_that_is_not_there(module: object) -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        module.nothing_of_the_kind  # type: ignore[attr-defined]
