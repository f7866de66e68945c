"""`list_*` and `get_*`: the rows of one kind, filtered and bounded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

from orchestrator.api.state import View
from orchestrator.util.state.records import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    State,
    StateApiError,
    TaskState,
    WorkerState,
)

R = TypeVar("R", bound=State)

#: (field, "=" or "!=", value)
Filter = tuple[str, str, Any]

LIMIT = 100
LIMIT_MAX = 10_000
TIMEOUT_S = 30

_KINDS: dict[type[State], str] = {
    TaskState: "tasks",
    ActorState: "actors",
    WorkerState: "workers",
    NodeState: "nodes",
    JobState: "jobs",
    ObjectState: "objects",
    PlacementGroupState: "placement_groups",
}


def rows_of(
    kind: type[R],
    filters: Sequence[Filter] | None,
    limit: int,
    timeout: float,
    detail: bool,
    raise_on_missing_output: bool,
) -> list[R]:
    """Return rows of one kind; see `list_tasks`."""
    wanted = _checked(kind, filters or ())
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= LIMIT_MAX:
        raise ValueError(f"limit must be between 1 and {LIMIT_MAX}, not {limit!r}")
    rows, missing = getattr(View(timeout), _KINDS[kind])()
    if missing:
        pids = [one for one in missing if isinstance(one, int)]
        others = [one for one in missing if not isinstance(one, int)]
        said = (
            [f"{len(pids)} processes did not answer within {timeout:g} s (pids {pids[:10]})"] if pids else []
        )
        if others:
            said.append(f"no answer came within {timeout:g} s from {', '.join(map(str, others[:10]))}")
        text = "; ".join(said)
        if raise_on_missing_output:
            raise StateApiError(f"{text}; pass raise_on_missing_output=False to see what the others say")
        warnings.warn(text, stacklevel=3)
    found = [row for row in rows if all(_matches(row, *one) for one in wanted)]
    return [kind.of(row, detail) for row in found[:limit]]


def _checked(kind: type[State], filters: Sequence[Filter]) -> list[Filter]:
    known = kind.filterable()
    checked = []
    for one in filters:
        if not isinstance(one, (tuple, list)) or len(one) != 3:
            raise ValueError(f'a filter is a tuple (field, "=" or "!=", value), not {one!r}')
        name, predicate, value = one
        if name not in known:
            raise ValueError(f"{name!r} cannot be filtered by; there are: {', '.join(known)}")
        if predicate not in ("=", "!="):
            raise ValueError(f'the predicate of a filter is "=" or "!=", not {predicate!r}')
        checked.append((name, predicate, value))
    return checked


def _matches(row: dict[str, Any], name: str, predicate: str, value: Any) -> bool:
    actual = row.get(name)
    if isinstance(actual, bool) and isinstance(value, str):
        equal = str(actual).lower() == value.lower() or str(int(actual)) == value
    elif isinstance(actual, str) or isinstance(value, str):
        equal = str(actual).lower() == str(value).lower()
    else:
        equal = actual == value
    return equal == (predicate == "=")


def _one(kind: type[R], name: str, value: str, timeout: float) -> list[R]:
    return rows_of(kind, [(name, "=", value)], LIMIT_MAX, timeout, True, False)


def list_tasks(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[TaskState]:
    """Return the tasks that wait and run, and the last ten thousand that have ended in each living process.

    Args:
        address: unused: the session of this process is meant.
        filters: conditions that all must hold, as ("state", "=", "RUNNING") or ("name", "!=", "f").
        limit: return at most so many.
        timeout: seconds to wait for the answers of the processes.
        detail: fill the fields that are details.
        raise_on_missing_output: raise if a process does not answer in time, rather than warn.

    Raises:
        StateApiError: not all processes have answered.
        ValueError: a filter or the limit makes no sense.
        SessionError: no session is running.
    """
    return rows_of(TaskState, filters, limit, timeout, detail, raise_on_missing_output)


def list_actors(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ActorState]:
    """Return the actors, the living first; arguments as for `list_tasks`."""
    return rows_of(ActorState, filters, limit, timeout, detail, raise_on_missing_output)


def list_placement_groups(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[PlacementGroupState]:
    """Return the placement groups; arguments as for `list_tasks`."""
    return rows_of(PlacementGroupState, filters, limit, timeout, detail, raise_on_missing_output)


def list_workers(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[WorkerState]:
    """Return the driver, the workers, and those that have died; arguments as for `list_tasks`."""
    return rows_of(WorkerState, filters, limit, timeout, detail, raise_on_missing_output)


def list_nodes(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[NodeState]:
    """Return the nodes; arguments as for `list_tasks`."""
    return rows_of(NodeState, filters, limit, timeout, detail, raise_on_missing_output)


def list_jobs(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[JobState]:
    """Return the drivers' programs; arguments as for `list_tasks`."""
    return rows_of(JobState, filters, limit, timeout, detail, raise_on_missing_output)


def list_objects(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = LIMIT,
    timeout: float = TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ObjectState]:
    """Return why each object is alive, a row for each reason and process; arguments as for `list_tasks`."""
    return rows_of(ObjectState, filters, limit, timeout, detail, raise_on_missing_output)


def get_task(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> Any:
    """Return a task's attempt, a list of them if there were several, None if it is not known."""
    found = _one(TaskState, "task_id", id, timeout)
    if len(found) > 1:
        return found
    return found[0] if found else None


def get_actor(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> ActorState | None:
    """Return an actor, None if it is not known."""
    return next(iter(_one(ActorState, "actor_id", id, timeout)), None)


def get_placement_group(
    id: str, address: str | None = None, timeout: float = TIMEOUT_S
) -> PlacementGroupState | None:
    """Return a placement group, None if it is not known."""
    return next(iter(_one(PlacementGroupState, "placement_group_id", id, timeout)), None)


def get_worker(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> WorkerState | None:
    """Return a process, None if it is not known."""
    return next(iter(_one(WorkerState, "worker_id", id, timeout)), None)


def get_node(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> NodeState | None:
    """Return a node, None if it is not known."""
    return next(iter(_one(NodeState, "node_id", id, timeout)), None)


def get_job(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> JobState | None:
    """Return a driver's program, None if it is not known."""
    return next(iter(_one(JobState, "job_id", id, timeout)), None)


def get_objects(id: str, address: str | None = None, timeout: float = TIMEOUT_S) -> list[ObjectState]:
    """Return all reasons why an object is alive."""
    return _one(ObjectState, "object_id", id, timeout)
