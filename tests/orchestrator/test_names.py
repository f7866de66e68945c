"""Where a program finds the names: at the same paths as in Ray."""

from __future__ import annotations

import importlib
import subprocess
import sys
import typing

import pytest

import orchestrator
from orchestrator.actor import ActorClass, ActorProxy
from orchestrator.util import accelerators

PATHS = {
    "orchestrator.actor": ["ActorClass", "ActorHandle", "ActorProxy", "exit_actor", "method"],
    "orchestrator.cloudpickle": ["dumps", "loads", "register_pickle_by_value"],
    "orchestrator.cluster_utils": ["Cluster"],
    "orchestrator.dag": ["InputNode", "MultiOutputNode"],
    "orchestrator.dag.class_node": ["ClassMethodNode", "ClassNode"],
    "orchestrator.dag.compiled_dag_node": ["CompiledDAG"],
    "orchestrator.dag.dag_node": ["DAGNode"],
    "orchestrator.dag.function_node": ["FunctionNode"],
    "orchestrator.dag.input_node": ["InputAttributeNode", "InputNode"],
    "orchestrator.dag.output_node": ["MultiOutputNode"],
    "orchestrator.exceptions": ["RayActorError", "RayError", "RayTaskError", "TaskError"],
    "orchestrator.experimental.compiled_dag_ref": ["CompiledDAGFuture", "CompiledDAGRef"],
    "orchestrator.experimental.internal_kv": ["_internal_kv_get", "_internal_kv_put"],
    "orchestrator.experimental.locations": ["get_local_object_locations", "get_object_locations"],
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
        "get_node_ip_address",
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
    "orchestrator.util.annotations": ["Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"],
    "orchestrator.util.check_serialize": ["FailureTuple", "inspect_serializability"],
    "orchestrator.util.debug": ["log_once", "reset_log_once"],
    "orchestrator.util.helpers": ["as_completed", "map_unordered"],
    "orchestrator.util.joblib": ["register_ray"],
    "orchestrator.util.metrics": ["Counter", "Gauge", "Histogram"],
    "orchestrator.util.multiprocessing": ["Pool"],
    "orchestrator.util.multiprocessing.pool": ["AsyncResult", "IMapIterator", "Pool"],
    "orchestrator.util.placement_group": ["placement_group", "remove_placement_group"],
    "orchestrator.util.queue": ["Empty", "Full", "Queue"],
    "orchestrator.util.rpdb": ["set_trace"],
    "orchestrator.util.scheduling_strategies": [
        "NodeAffinitySchedulingStrategy",
        "PlacementGroupSchedulingStrategy",
    ],
    "orchestrator.util.serialization": ["deregister_serializer", "register_serializer"],
    "orchestrator.util.state": ["list_actors", "list_tasks"],
    "orchestrator.util.state.api": ["get_actor", "list_tasks", "summarize_tasks"],
    "orchestrator.util.state.common": ["ActorState", "JobState", "NodeState", "ObjectState", "TaskState"],
    "orchestrator.util.state.exception": ["RayStateApiException"],
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


def test_annotations_with_the_types_of_actors() -> None:
    class Plain:
        pass

    @orchestrator.remote
    class Counter:
        pass

    assert isinstance(Counter, ActorClass) and not isinstance(Plain, ActorClass)
    assert isinstance(Counter.options(num_cpus=1), ActorClass) is False
    for hint in (ActorClass[Plain], ActorProxy[Plain]):
        assert Plain in typing.get_args(hint) or type[Plain] in typing.get_args(hint)
    with pytest.raises(TypeError, match="made by @remote"):
        ActorClass()


def test_models_of_accelerators_are_what_the_option_takes() -> None:
    assert (accelerators.NVIDIA_TESLA_V100, accelerators.NVIDIA_H100) == ("V100", "H100")
    assert all(isinstance(getattr(accelerators, name), str) for name in accelerators.__all__)
    assert {"AMD_INSTINCT_MI250x", "GOOGLE_TPU_V4"} <= set(accelerators.__all__)
    orchestrator.remote(accelerator_type=accelerators.NVIDIA_A100)(lambda: None)


@pytest.mark.parametrize("module", [orchestrator, orchestrator.util])
def test_a_name_that_is_not_there(module: object) -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        module.nothing_of_the_kind  # type: ignore[attr-defined]
