"""What is going on in the session: tasks, actors, objects, workers, as lists, one by one, and summed up.

    from orchestrator.util.state import list_tasks, summarize_tasks

    list_tasks(filters=[("state", "=", "FAILED")], detail=True)

Nothing is reported until it is asked for. Each process remembers its last ten thousand runs; one that has
died takes them with it.
"""

from __future__ import annotations

from orchestrator.util.state.listing import (
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_tasks,
    list_workers,
)
from orchestrator.util.state.memory import memory_summary
from orchestrator.util.state.records import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RayStateApiException,
    StateApiError,
    TaskState,
    WorkerState,
)
from orchestrator.util.state.summaries import summarize_actors, summarize_objects, summarize_tasks

__all__ = [
    "ActorState",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "RayStateApiException",
    "StateApiError",
    "TaskState",
    "WorkerState",
    "get_actor",
    "get_job",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_tasks",
    "list_workers",
    "memory_summary",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]
