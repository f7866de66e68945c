"""`summarize_*`: how many there are of what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.util.state.listing import LIMIT_MAX, TIMEOUT_S, rows_of
from orchestrator.util.state.records import ActorState, ObjectState, TaskState

Summary = dict[str, Any]


def _count(values: Iterable[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    return counts


def summarize_tasks(
    address: str | None = None, timeout: float = TIMEOUT_S, raise_on_missing_output: bool = True
) -> Summary:
    """Return `{"cluster": {"summary": {name: {"type", "state_counts", ...}}, "total_tasks", ...}}`."""
    tasks = rows_of(TaskState, None, LIMIT_MAX, timeout, False, raise_on_missing_output)
    by_name: dict[str, list[TaskState]] = {}
    for task in tasks:
        by_name.setdefault(task.name, []).append(task)
    totals = _count(task.type for task in tasks)
    summary = {
        name: {
            "func_or_class_name": group[0].func_or_class_name,
            "type": group[0].type,
            "state_counts": _count(task.state for task in group),
        }
        for name, group in by_name.items()
    }
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": totals.get("NORMAL_TASK", 0),
            "total_actor_tasks": totals.get("ACTOR_TASK", 0),
            "total_actor_scheduled": totals.get("ACTOR_CREATION_TASK", 0),
            "summary_by": "func_name",
        }
    }


def summarize_actors(
    address: str | None = None, timeout: float = TIMEOUT_S, raise_on_missing_output: bool = True
) -> Summary:
    """Return `{"cluster": {"summary": {class: {"class_name", "state_counts"}}, "total_actors"}}`."""
    actors = rows_of(ActorState, None, LIMIT_MAX, timeout, False, raise_on_missing_output)
    by_class: dict[str, list[ActorState]] = {}
    for actor in actors:
        by_class.setdefault(actor.class_name, []).append(actor)
    summary = {
        name: {"class_name": name, "state_counts": _count(actor.state for actor in group)}
        for name, group in by_class.items()
    }
    return {"cluster": {"summary": summary, "total_actors": len(actors), "summary_by": "class"}}


def summarize_objects(
    address: str | None = None, timeout: float = TIMEOUT_S, raise_on_missing_output: bool = True
) -> Summary:
    """Return counts and sizes of objects by the line that made them ("disabled" if not recorded)."""
    rows = rows_of(ObjectState, None, LIMIT_MAX, timeout, False, raise_on_missing_output)
    sizes = {row.object_id: row.object_size for row in rows}
    by_site: dict[str, list[ObjectState]] = {}
    for row in rows:
        by_site.setdefault(row.call_site or "disabled", []).append(row)
    summary = {}
    for site, group in by_site.items():
        ids = {row.object_id for row in group}
        summary[site] = {
            "total_objects": len(ids),
            "total_size_mb": sum(sizes[identity] for identity in ids) / 2**20,
            "total_num_workers": len({row.pid for row in group}),
            "total_num_nodes": 1,
            "task_state_counts": _count(row.task_status for row in group),
            "ref_type_counts": _count(row.reference_type for row in group),
        }
    return {
        "cluster": {
            "summary": summary,
            "total_objects": len(sizes),
            "total_size_mb": sum(sizes.values()) / 2**20,
            "callsite_enabled": any(row.call_site for row in rows),
            "summary_by": "callsite",
        }
    }
