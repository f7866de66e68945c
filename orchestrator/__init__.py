"""A parallel runtime for Python: remote functions, actors and shared objects.

The names and their meaning are those of Ray Core: `import orchestrator as ray`.

    import orchestrator as ray

    @ray.remote
    def square(x):
        return x * x

    ray.get([square.remote(i) for i in range(4)])      # [0, 1, 4, 9]

Layers, low to high: `common`, `objects`, `core`, `api`, which holds all that is public here; `node` is the
node process, `scheduling` its decisions. Public names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ActorHandle": "orchestrator.api.actor_handle",
    "ActorID": "orchestrator.common.ids",
    "DynamicObjectRefGenerator": "orchestrator.api.object_ref",
    "Executor": "orchestrator.api.executor",
    "JobID": "orchestrator.common.ids",
    "LoggingConfig": "orchestrator.common.logging_config",
    "NodeID": "orchestrator.common.ids",
    "ObjectID": "orchestrator.api.object_ref",
    "ObjectRef": "orchestrator.api.object_ref",
    "ObjectRefGenerator": "orchestrator.api.object_ref",
    "PlacementGroupID": "orchestrator.common.ids",
    "RetryPolicy": "orchestrator.common.retry_policy",
    "TaskGroup": "orchestrator.api.task_group",
    "TaskID": "orchestrator.common.ids",
    "WorkerID": "orchestrator.common.ids",
    "as_completed": "orchestrator.api.completions",
    "available_resources": "orchestrator.api.context",
    "cancel": "orchestrator.api.getting",
    "cluster_resources": "orchestrator.api.context",
    "exit_actor": "orchestrator.api.context",
    "forget_object": "orchestrator.api.objects",
    "free": "orchestrator.api.objects",
    "gather": "orchestrator.api.task_group",
    "get": "orchestrator.api.getting",
    "get_actor": "orchestrator.api.getting",
    "get_gpu_ids": "orchestrator.api.context",
    "get_object": "orchestrator.api.objects",
    "get_runtime_context": "orchestrator.api.context",
    "init": "orchestrator.api.session",
    "is_initialized": "orchestrator.api.session",
    "kill": "orchestrator.api.getting",
    "map": "orchestrator.api.mapping",
    "method": "orchestrator.api.actor_class",
    "nodes": "orchestrator.api.context",
    "progress": "orchestrator.api.progress",
    "put": "orchestrator.api.getting",
    "remote": "orchestrator.api.remote",
    "shutdown": "orchestrator.api.session",
    "timeline": "orchestrator.api.state",
    "wait": "orchestrator.api.waiting",
}

#: Modules that are attributes of the package without an import of their own, as in Ray.
_MODULES = (
    "actor",
    "cloudpickle",
    "cluster_utils",
    "dag",
    "exceptions",
    "experimental",
    "remote_function",
    "runtime_context",
    "types",
    "util",
)

__all__ = ["__version__", *_MODULES, *_PUBLIC]

if TYPE_CHECKING:
    from orchestrator import actor as actor
    from orchestrator import cloudpickle as cloudpickle
    from orchestrator import cluster_utils as cluster_utils
    from orchestrator import dag as dag
    from orchestrator import exceptions as exceptions
    from orchestrator import experimental as experimental
    from orchestrator import remote_function as remote_function
    from orchestrator import runtime_context as runtime_context
    from orchestrator import types as types
    from orchestrator import util as util
    from orchestrator.api.actor_class import method as method
    from orchestrator.api.actor_handle import ActorHandle as ActorHandle
    from orchestrator.api.completions import as_completed as as_completed
    from orchestrator.api.context import available_resources as available_resources
    from orchestrator.api.context import cluster_resources as cluster_resources
    from orchestrator.api.context import exit_actor as exit_actor
    from orchestrator.api.context import get_gpu_ids as get_gpu_ids
    from orchestrator.api.context import get_runtime_context as get_runtime_context
    from orchestrator.api.context import nodes as nodes
    from orchestrator.api.executor import Executor as Executor
    from orchestrator.api.getting import cancel as cancel
    from orchestrator.api.getting import get as get
    from orchestrator.api.getting import get_actor as get_actor
    from orchestrator.api.getting import kill as kill
    from orchestrator.api.getting import put as put
    from orchestrator.api.mapping import map as map
    from orchestrator.api.object_ref import DynamicObjectRefGenerator as DynamicObjectRefGenerator
    from orchestrator.api.object_ref import ObjectID as ObjectID
    from orchestrator.api.object_ref import ObjectRef as ObjectRef
    from orchestrator.api.object_ref import ObjectRefGenerator as ObjectRefGenerator
    from orchestrator.api.objects import forget_object as forget_object
    from orchestrator.api.objects import free as free
    from orchestrator.api.objects import get_object as get_object
    from orchestrator.api.progress import progress as progress
    from orchestrator.api.remote import remote as remote
    from orchestrator.api.session import init as init
    from orchestrator.api.session import is_initialized as is_initialized
    from orchestrator.api.session import shutdown as shutdown
    from orchestrator.api.state import timeline as timeline
    from orchestrator.api.task_group import TaskGroup as TaskGroup
    from orchestrator.api.task_group import gather as gather
    from orchestrator.api.waiting import wait as wait
    from orchestrator.common.ids import ActorID as ActorID
    from orchestrator.common.ids import JobID as JobID
    from orchestrator.common.ids import NodeID as NodeID
    from orchestrator.common.ids import PlacementGroupID as PlacementGroupID
    from orchestrator.common.ids import TaskID as TaskID
    from orchestrator.common.ids import WorkerID as WorkerID
    from orchestrator.common.logging_config import LoggingConfig as LoggingConfig
    from orchestrator.common.retry_policy import RetryPolicy as RetryPolicy


def __getattr__(name: str) -> Any:
    import importlib

    module = _PUBLIC.get(name)
    if module is not None:
        value = getattr(importlib.import_module(module), name)
    elif name in _MODULES:
        value = importlib.import_module(f"orchestrator.{name}")
    else:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
