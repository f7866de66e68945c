"""The rows of the state API, with a type for each kind.

Fields with a default are details, filled only with `detail=True`.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar

from orchestrator.exceptions import OrchestratorError


class StateApiError(OrchestratorError):
    """The state of the session could not be read as a whole: some processes did not answer in time."""


RayStateApiException = StateApiError


class State:
    """A row: its fields are attributes, and can be read like those of a dict."""

    #: fields that a filter cannot name, as they hold more than one value
    UNFILTERABLE: ClassVar[frozenset[str]] = frozenset(
        {
            "bundles",
            "death_cause",
            "driver_info",
            "fallback_strategy",
            "label_selector",
            "labels",
            "required_resources",
            "resources_total",
            "stats",
        }
    )

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or `default` if there is none of this name."""
        return getattr(self, name, default)

    def asdict(self) -> dict[str, Any]:
        """Return the row as a dict."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def filterable(cls) -> list[str]:
        """Return the names of the fields that a filter may name."""
        return [f.name for f in fields(cls) if f.name not in cls.UNFILTERABLE]  # type: ignore[arg-type]

    @classmethod
    def of(cls, row: dict[str, Any], detail: bool) -> Any:
        """Make a row, without the details unless they are wanted."""
        return cls(
            **{
                f.name: row.get(f.name)
                for f in fields(cls)  # type: ignore[arg-type]
                if detail or f.default is MISSING
            }
        )


@dataclass
class TaskState(State):
    """One attempt to run a task, or a call of an actor's method."""

    task_id: str
    attempt_number: int
    name: str
    #: PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER, RUNNING, RUNNING_IN_RAY_GET (or in
    #: wait), FINISHED, FAILED
    state: str
    job_id: str
    actor_id: str | None
    #: NORMAL_TASK, ACTOR_CREATION_TASK, ACTOR_TASK
    type: str
    func_or_class_name: str
    #: known until the task has ended
    parent_task_id: str
    node_id: str | None
    worker_id: str | None
    worker_pid: int | None
    error_type: str | None
    language: str | None = None
    required_resources: dict[str, float] | None = None
    #: known until the task has ended, as what follows from its options is
    placement_group_id: str | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None
    start_time_ms: float | None = None
    end_time_ms: float | None = None
    error_message: str | None = None


@dataclass
class ActorState(State):
    """An actor."""

    actor_id: str
    class_name: str
    #: PENDING_CREATION, ALIVE, RESTARTING, DEAD
    state: str
    job_id: str
    name: str
    node_id: str | None
    #: 0 if it has no process
    pid: int
    ray_namespace: str
    required_resources: dict[str, float] | None = None
    death_cause: dict[str, Any] | None = None
    is_detached: bool | None = None
    placement_group_id: str | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None
    num_restarts: int | None = None


@dataclass
class PlacementGroupState(State):
    """A placement group."""

    placement_group_id: str
    name: str
    creator_job_id: str
    #: PENDING, CREATED, REMOVED
    state: str
    bundles: Any = None
    is_detached: bool | None = None
    stats: dict[str, Any] | None = None


@dataclass
class WorkerState(State):
    """A process that runs user code: the driver, or a worker."""

    worker_id: str
    is_alive: bool
    #: WORKER, DRIVER
    worker_type: str
    exit_type: str | None
    node_id: str
    ip: str
    pid: int
    #: whose work it does; None if it is dead
    job_id: str | None = None
    exit_detail: str | None = None
    #: when it became part of the session; None if it is dead
    start_time_ms: float | None = None
    #: when it was found dead
    end_time_ms: float | None = None


@dataclass
class NodeState(State):
    """A node."""

    node_id: str
    node_ip: str
    is_head_node: bool
    state: str
    state_message: str | None
    node_name: str
    resources_total: dict[str, float]
    labels: dict[str, str]


@dataclass
class JobState(State):
    """A driver's program."""

    job_id: str
    type: str
    status: str
    entrypoint: str
    driver_info: dict[str, str]
    #: in milliseconds, and where; known while it runs
    start_time: int | None = None
    driver_node_id: str | None = None


@dataclass
class ObjectState(State):
    """A reason why an object is alive: who keeps it, and how."""

    object_id: str
    #: in bytes; 0 while it is not known
    object_size: int
    #: what has become of the task that makes it; NIL if its owner does not say
    task_status: str
    #: LOCAL_REFERENCE, PINNED_IN_MEMORY, USED_BY_PENDING_TASK, CAPTURED_IN_OBJECT, ACTOR_HANDLE
    reference_type: str
    #: where the reference was made; empty unless ORCHESTRATOR_RECORD_CALL_SITES=1
    call_site: str
    #: WORKER or DRIVER: what kind of process keeps it; empty when an object does
    type: str
    #: who keeps it
    pid: int
    ip: str
    #: who made the reference, or None if that process is gone
    owner_pid: int | None
    #: the object it is captured in
    contained_in: str | None
    #: pending, here (in its owner's heap), sealed (in the store), spilled, lost, failed
    place: str
