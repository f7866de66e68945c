"""What stands on top of the core: pools, queues, iteration, metrics. Imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The name belongs to a module of this package; what it stood for is done.
del annotations

_PUBLIC = {
    "ActorPool": "orchestrator.util.actor_pool",
    "Barrier": "orchestrator.util.synchronization",
    "Event": "orchestrator.util.synchronization",
    "Lock": "orchestrator.util.synchronization",
    "Semaphore": "orchestrator.util.synchronization",
    "as_completed": "orchestrator.util.iteration",
    "deregister_serializer": "orchestrator.api.serializers",
    "disable_log_once_globally": "orchestrator.util.debug",
    "enable_periodic_logging": "orchestrator.util.debug",
    "get_current_placement_group": "orchestrator.api.placement_groups",
    "get_node_ip_address": "orchestrator.api.context",
    "get_placement_group": "orchestrator.api.placement_groups",
    "inspect_serializability": "orchestrator.util.serializability",
    "list_named_actors": "orchestrator.api.named_actors",
    "list_named_objects": "orchestrator.api.objects",
    "log_once": "orchestrator.util.debug",
    "map_unordered": "orchestrator.util.iteration",
    "placement_group": "orchestrator.api.placement_groups",
    "placement_group_table": "orchestrator.api.placement_groups",
    "register_serializer": "orchestrator.api.serializers",
    "remove_placement_group": "orchestrator.api.placement_groups",
    "request_resources": "orchestrator.util.scaling",
}

#: Modules that are attributes of this one without an import of their own.
_MODULES = (
    "accelerators",
    "actor_pool",
    "annotations",
    "debug",
    "joblib",
    "metrics",
    "multiprocessing",
    "queue",
    "rpdb",
    "scheduling_strategies",
    "state",
)

__all__ = [*_MODULES, *_PUBLIC]

if TYPE_CHECKING:
    from orchestrator.api.context import get_node_ip_address as get_node_ip_address
    from orchestrator.api.named_actors import list_named_actors as list_named_actors
    from orchestrator.api.objects import list_named_objects as list_named_objects
    from orchestrator.api.placement_groups import get_current_placement_group as get_current_placement_group
    from orchestrator.api.placement_groups import get_placement_group as get_placement_group
    from orchestrator.api.placement_groups import placement_group as placement_group
    from orchestrator.api.placement_groups import placement_group_table as placement_group_table
    from orchestrator.api.placement_groups import remove_placement_group as remove_placement_group
    from orchestrator.api.serializers import deregister_serializer as deregister_serializer
    from orchestrator.api.serializers import register_serializer as register_serializer
    from orchestrator.util import accelerators as accelerators
    from orchestrator.util import actor_pool as actor_pool
    from orchestrator.util import debug as debug
    from orchestrator.util import joblib as joblib
    from orchestrator.util import metrics as metrics
    from orchestrator.util import multiprocessing as multiprocessing
    from orchestrator.util import queue as queue
    from orchestrator.util import rpdb as rpdb
    from orchestrator.util import scheduling_strategies as scheduling_strategies
    from orchestrator.util import state as state
    from orchestrator.util.actor_pool import ActorPool as ActorPool
    from orchestrator.util.debug import disable_log_once_globally as disable_log_once_globally
    from orchestrator.util.debug import enable_periodic_logging as enable_periodic_logging
    from orchestrator.util.debug import log_once as log_once
    from orchestrator.util.iteration import as_completed as as_completed
    from orchestrator.util.iteration import map_unordered as map_unordered
    from orchestrator.util.scaling import request_resources as request_resources
    from orchestrator.util.serializability import inspect_serializability as inspect_serializability
    from orchestrator.util.synchronization import Barrier as Barrier
    from orchestrator.util.synchronization import Event as Event
    from orchestrator.util.synchronization import Lock as Lock
    from orchestrator.util.synchronization import Semaphore as Semaphore


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
