"""What a finished task leaves behind for the case that one of its results is lost; see lineage.py."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from orchestrator import exceptions
from orchestrator.core.task import DONE, Task

if TYPE_CHECKING:
    from orchestrator.core.actor_record import ActorRecord

#: What a spec costs beside its message: its slots, its place in the table, its list of sources.
SPEC_BYTES = 400

WHY_PUT = (
    "it was put(), and nothing can produce it again: keep the value, or let a task with max_retries return it"
)
WHY_NO_RETRIES = "its task has max_retries=0: give the task retries if running it twice does no harm"
WHY_ACTOR = (
    "an actor's method returned it: set max_task_retries on the actor if running its methods twice "
    "does no harm"
)
WHY_BY_VALUE = (
    "the arguments of its task are gone with the call: they were larger than a message. "
    "put() what is large and keep the reference"
)
WHY_FORGOTTEN = "it was put(), or its task has no retries, or its owner has forgotten how it was made"

#: An object an argument refers to: its id, how to make it if this process can, and whether the
#: task waits for it (a reference inside an argument need not be ready).
Source = tuple[bytes, "TaskSpec | None", bool]


class TaskSpec:
    """How the results of one task can be made again."""

    __slots__ = (
        "_run",
        "actor",
        "attempts",
        "indices",
        "message",
        "seq",
        "size_bytes",
        "sources",
        "template",
    )

    def __init__(self, task: Task, sources: tuple[Source, ...]) -> None:
        self.seq = task.seq
        self.template = task.template
        self.actor: ActorRecord | None = task.actor
        #: None once it was given up to keep within `bytes_max`
        self.message: bytes | None = task.message
        self.sources = sources
        #: runs beyond the first one, of whatever cause: max_retries bounds their number
        self.attempts = task.attempts
        #: which return values lie in the store
        self.indices: list[int] = []
        #: the latest run; weak, as a run keeps the entries it fills
        self._run = weakref.ref(task)
        self.size_bytes = SPEC_BYTES + len(task.message or b"") + 100 * len(sources)

    @property
    def running(self) -> Task | None:
        """The run that is under way, if any."""
        task = self._run()
        return task if task is not None and task.place != DONE else None

    def started(self, task: Task) -> None:
        """Note that it runs once more."""
        self.attempts += 1
        self._run = weakref.ref(task)

    def refusal(self, name: str) -> exceptions.ObjectLostError | None:
        """Return the error if it cannot be run again."""
        if self.message is None:
            return exceptions.ObjectReconstructionFailedLineageEvictedError(
                f"{name} is lost, and how it was made was given up, as the specs of finished tasks "
                f"took too much memory: drop references that are not needed, or keep intermediate results"
            )
        allowed = self.template.max_retries
        if 0 <= allowed <= self.attempts:
            return exceptions.ObjectReconstructionFailedMaxAttemptsExceededError(
                f"{name} is lost, and {self.template.name} was run {self.attempts + 1} times already: "
                f"max_retries={allowed} allows no more"
            )
        return None
