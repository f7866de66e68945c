"""What ran in this process lately: a ring of fixed length, written by whoever runs tasks.

A record is one tuple of things that exist anyway, appended in some 60 ns. Names, ids and times of day are
made when somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common.config import HISTORY_MAX

if TYPE_CHECKING:
    from orchestrator.core.executor import Executor, Run
    from orchestrator.core.task import Task

#: Deaths of processes that are remembered.
DEATHS_MAX = 1000

#: Characters of an error's text that are kept.
MESSAGE_MAX = 500

TASK_EXECUTION_EXCEPTION = "TASK_EXECUTION_EXCEPTION"
TASK_CANCELLED = "TASK_CANCELLED"

#: What the state API calls a failure that the user's code did not cause; the first class that fits.
_ERROR_TYPES: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.TaskCancelledError, TASK_CANCELLED),
    (exceptions.OutOfMemoryError, "OUT_OF_MEMORY"),
    (exceptions.WorkerCrashedError, "WORKER_DIED"),
    (exceptions.ActorDiedError, "ACTOR_DIED"),
    (exceptions.ActorUnavailableError, "ACTOR_UNAVAILABLE"),
    (exceptions.InfeasibleError, "TASK_UNSCHEDULABLE_ERROR"),
    (exceptions.OwnerDiedError, "OWNER_DIED"),
    (exceptions.ObjectLostError, "OBJECT_LOST"),
    (exceptions.NodeDiedError, "NODE_DIED"),
)


def error_type(error: BaseException) -> str:
    """Return the kind of a failure, as the state API names it."""
    return next((name for kind, name in _ERROR_TYPES if isinstance(error, kind)), TASK_EXECUTION_EXCEPTION)


def error_message(error: BaseException) -> str:
    """Return the beginning of an error's text."""
    try:
        return f"{type(error).__name__}: {error}"[:MESSAGE_MAX]
    except Exception:
        return type(error).__name__


def name_of(function: Any) -> str:
    """Return the name of a function for a message."""
    if function is None:
        return "?"
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    # Functions written in C are bound too, to their module.
    if owner is None or isinstance(owner, ModuleType):
        return str(name)
    return f"{type(owner).__name__}.{function.__name__}"


class History:
    """The last runs that ended here, and the last tasks of this process that failed without an answer."""

    def __init__(self) -> None:
        #: (run, function, begin and end by `perf_counter_ns`, None or (type, message) of the error)
        self.runs: deque[tuple[Run, Any, int, int, tuple[str, str] | None]] = deque(maxlen=HISTORY_MAX)
        #: how processes died of which this one has heard
        self.deaths: deque[dict[str, Any]] = deque(maxlen=DEATHS_MAX)
        #: (seq, name, type, actor, type and message of the error, when)
        self.failures: deque[tuple[int, str, str, str | None, str, str, int]] = deque(maxlen=HISTORY_MAX)

    def failed_run(
        self, run: Run, function: Any, began_ns: int, error: BaseException, cancelled: bool
    ) -> None:
        """Note that a run here ended with an error."""
        runs = self.runs
        if runs and runs[-1][0] is run:
            runs.pop()  # its result could not be sent
        kind = TASK_CANCELLED if cancelled else error_type(error)
        runs.append((run, function, began_ns, time.perf_counter_ns(), (kind, error_message(error))))

    def failed_task(self, task: Task, error: BaseException) -> None:
        """Note that a task this process had submitted failed without an answer: its worker died, ..."""
        actor = task.actor.actor_id.hex() if task.actor is not None else None
        record = (
            task.seq,
            task.template.name,
            type_of(task),
            actor,
            error_type(error),
            error_message(error),
            time.perf_counter_ns(),
        )
        self.failures.append(record)


def type_of(task: Task) -> str:
    """Return which type of task it is, as the state API names it."""
    if task.actor is None:
        return "NORMAL_TASK"
    options = task.template.options
    return "ACTOR_CREATION_TASK" if options and "actor" in options else "ACTOR_TASK"


def runs_of(executor: Executor | None, history: History) -> list[tuple[Any, ...]]:
    """Return what has run here: (submitter, seq, name, type, begin, end, error)."""
    actor = executor.actor if executor is not None else None
    callables = executor.callables if executor is not None else {}
    methods = {id(function): key for key, function in callables.items() if type(key) is str}
    class_name = actor.class_name if actor is not None else ""

    def identify(function: Any) -> tuple[str, str]:
        if isinstance(function, type):
            return f"{function.__name__}.__init__", "ACTOR_CREATION_TASK"
        method = methods.get(id(function))
        if method is not None:
            return f"{class_name}.{method}", "ACTOR_TASK"
        if isinstance(function, MethodType):
            return name_of(function), "ACTOR_TASK"
        return function if type(function) is str else name_of(function), "NORMAL_TASK"

    return [
        (*run, *identify(function), began, ended, error)
        for run, function, began, ended, error in list(history.runs)
    ]


def running_in(executor: Executor | None) -> tuple[list[Run], bool]:
    """Return what runs here now, and whether it waits for something."""
    if executor is None:
        return [], False
    actor = executor.actor
    running = list(actor.active) if actor is not None else []
    now = executor.running
    if now is not None and now not in running:
        running.append(now)
    return running, executor.blocking.waits > 0
