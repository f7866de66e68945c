"""What can go wrong, as classes.

Three kinds: the user's code raised (`TaskError`), the world broke (a worker died, an object was
lost, time ran out), or the caller asked for something that cannot be (`InfeasibleError`,
`SessionError`). Each class says when you get it and what to do. Ray's names are aliases, at the end.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any


class OrchestratorError(Exception):
    """The root of all errors of this package."""


class SessionError(OrchestratorError, RuntimeError):
    """The session is not there: not started, shut down, or another one than the reference's own."""


class TaskError(OrchestratorError):
    """A remote function or method raised an exception.

    It is raised as an instance of this class *and* of the class the user's code raised, so that
    `except ValueError` works as it would locally.

    Attributes:
        cause: the exception that was raised remotely.
        function: the name of the remote function.
        pid: the process it ran in.
        remote_traceback: text of the remote traceback, the user's frames only.
    """

    def __init__(
        self, cause: BaseException, function: str = "", pid: int = 0, remote_traceback: str = ""
    ) -> None:
        self._describe(cause, function, pid, remote_traceback)

    def _describe(self, cause: BaseException, function: str, pid: int, remote_traceback: str) -> None:
        self.cause = cause
        self.function = function
        self.pid = pid
        self.remote_traceback = remote_traceback
        self.__cause__ = cause

    def __str__(self) -> str:
        where = f"[remote: {self.function}, pid {self.pid}]"
        text = self.remote_traceback.rstrip() or f"{type(self.cause).__name__}: {self.cause}"
        return f"{where}\n{text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (rebuild_task_error, (self.cause, self.function, self.pid, self.remote_traceback))

    def as_raised(self) -> TaskError:
        """Return this error as an instance of the user's class too, where that can be."""
        return rebuild_task_error(self.cause, self.function, self.pid, self.remote_traceback)

    as_instanceof_cause = make_dual_exception_instance = as_raised  # Ray's names


class UnserializableException(OrchestratorError):
    """Stands in for an exception that cannot travel between processes; its text tells what it was."""

    def __init__(self, type_name: str, message: str, reason: str = "") -> None:
        super().__init__(type_name, message, reason)
        self.type_name = type_name
        self.message = message
        self.reason = reason

    def __str__(self) -> str:
        tail = f" (not transferable: {self.reason})" if self.reason else ""
        return f"{self.type_name}: {self.message}{tail}"


class TaskCancelledError(OrchestratorError):
    """The task was cancelled before it had finished."""


class WorkerCrashedError(OrchestratorError):
    """The process that ran the task died, and its retries are used up.

    The text has the exit code or the signal, and the last lines the process wrote to stderr.
    """


class TaskKilledError(TaskCancelledError, WorkerCrashedError):
    """The task was cancelled with `force=True` while it ran, so its process was killed."""


class TaskTimeoutError(OrchestratorError, TimeoutError):
    """One run of the task took longer than its `timeout_s`, and was stopped."""


class OutOfMemoryError(WorkerCrashedError, MemoryError):
    """The process that ran the task was killed because memory ran out; the text has the evidence.

    Give tasks more room: fewer of them at a time (`num_cpus=2`), or state what they need (`memory=`).
    """


class ActorError(OrchestratorError):
    """An actor could not serve a call.

    Attributes:
        actor_id: the actor's id, in hexadecimal.
        actor_init_failed: whether its constructor is what failed.
        preempted: whether it died because its node was taken away.
    """

    def __init__(
        self,
        message: str = "",
        actor_id: str = "",
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(message, actor_id, actor_init_failed, preempted)
        self.message = message
        self.actor_id = actor_id
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __str__(self) -> str:
        return self.message


class ActorDiedError(ActorError):
    """The actor is dead for good: its constructor failed, its process died, it ended itself or was killed."""


class ActorUnavailableError(ActorError):
    """The actor died with this call and is being restarted; the call may or may not have been executed.

    Later calls are served by the restarted actor. `max_task_retries` repeats such a call by itself.
    """


class ActorHandleNotFoundError(SessionError, ValueError):
    """The handle belongs to a session that is over."""


class DeadlockError(OrchestratorError):
    """Actors wait for each other in a circle, so that none of them can go on; the text shows the circle.

    Make one of them async, give it `max_concurrency` above one, or do not `get` inside its method.
    """


class ActorAlreadyExistsError(OrchestratorError, ValueError):
    """A live actor has this name already. `get_if_exists=True` returns it instead."""


class AsyncioActorExit(OrchestratorError):
    """Raised inside an async actor to end it."""


class GetTimeoutError(OrchestratorError, TimeoutError):
    """`get` ran out of time; the text says what state each reference is in."""


class ObjectLostError(OrchestratorError):
    """The object no longer exists anywhere, and cannot be made again; the text says why."""


class OwnerDiedError(ObjectLostError):
    """The process that was to produce the object, or could have made it again, is dead."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and something its task needs to run again is gone too; the text says what."""


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object was lost and its task has used up its `max_retries`."""


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The object was lost, and how to make it had been given up to save memory."""


class SpilledObjectLostError(ObjectLostError):
    """The object had been moved to disk, its file is missing or damaged, and it cannot be made again."""


class ObjectFreedError(ObjectLostError):
    """Somebody freed the object explicitly, while references to it were left."""


class ObjectFetchTimedOutError(ObjectLostError):
    """A copy exists, and could not be brought here in time."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted while it was referenced. Please report it."""


class ObjectStoreFullError(OrchestratorError, MemoryError):
    """The store has no room: drop references or views, or start with a larger `object_store_memory`."""


class OutOfDiskError(OrchestratorError, OSError):
    """The disk that objects are spilled to is full: free some of it, or spill elsewhere."""


class InfeasibleError(OrchestratorError):
    """No node has, or ever will have, the resources that were asked for."""


class TaskUnschedulableError(InfeasibleError):
    """The place that the task's scheduling strategy or labels ask for does not exist."""


class ActorUnschedulableError(InfeasibleError):
    """The place that the actor's scheduling strategy or labels ask for does not exist."""


class TaskPlacementGroupRemoved(OrchestratorError):
    """The placement group of the task was removed before the task had finished."""


class ActorPlacementGroupRemoved(ActorDiedError):
    """The placement group of the actor was removed, and the actor with it."""


class RuntimeEnvSetupError(OrchestratorError):
    """The runtime environment cannot be made; the text has the reason."""


class SerializationError(OrchestratorError, TypeError):
    """A value cannot be pickled; the text names the path to the culprit."""


class OutOfBandReferenceError(OrchestratorError, TypeError):
    """A reference was pickled by something that cannot keep its object alive, where that is forbidden."""


class NodeDiedError(OrchestratorError):
    """The node process died; the session is over. `shutdown()`, then `init()` again."""


class InternalError(OrchestratorError):
    """Something inside the runtime failed, rather than the program that uses it."""


class RpcError(InternalError):
    """A message between nodes could not be delivered."""


class ReplayInconsistentError(InternalError):
    """A generator that ran again after its worker's death yielded fewer items than the first time.

    What is replayed must be deterministic; `max_retries=0` turns replay off.
    """


class ChannelError(InternalError):
    """A channel of a compiled graph cannot be used: it is closed, or its other end has died."""


class ChannelTimeoutError(ChannelError, TimeoutError):
    """A channel of a compiled graph was not read, or not written, in time."""


class GraphCapacityExceeded(InternalError):
    """A compiled graph has as many executions under way, or results not fetched, as it may have."""


class DirectTransportError(InternalError):
    """A tensor could not be moved directly between devices."""


class AuthenticationError(OrchestratorError):
    """The session asks for a token, and the one given is missing or wrong."""


class CrossLanguageError(OrchestratorError):
    """A function in another language failed. This runtime has none; programs may name the class."""


class ReferenceTypeError(TypeError, ValueError):
    """Something that is not a reference was given where one is needed."""


class ArgumentTypeError(TypeError, ValueError):
    """Something of the wrong type was given where Ray says that the value is wrong: caught as either."""


class PendingCallsLimitExceeded(OrchestratorError):
    """More calls wait for this actor than `max_pending_calls` allows."""


#: `ExceptionGroup`, from Python 3.11 on.
_GROUP: Any = getattr(builtins, "ExceptionGroup", None)

_COMBINED: dict[type[BaseException], type[TaskError]] = {}


def _combined_class(cause_class: type[BaseException]) -> type[TaskError]:
    """Return a class that is both TaskError and `cause_class`; TaskError alone if there is none."""
    known = _COMBINED.get(cause_class)
    if known is not None:
        return known
    combined: type[TaskError] = TaskError
    if issubclass(cause_class, TaskError):
        # A task that failed because a task of its own did: what that one raised is what it raised.
        combined = cause_class
    elif not issubclass(cause_class, _steering()):
        combined = _combine(cause_class)
    _COMBINED[cause_class] = combined
    return combined


def _steering() -> tuple[type[BaseException], ...]:
    """Return what interpreter and event loop are steered by: from another process it must not steer them."""
    asyncio = sys.modules.get("asyncio")
    cancelled = () if asyncio is None else (asyncio.CancelledError,)
    return (KeyboardInterrupt, SystemExit, GeneratorExit, *cancelled)


def _combine(cause_class: type[BaseException]) -> type[TaskError]:
    """Make the class; there is more than one way to make its instances, and each class allows some."""
    namespace = {
        "__init__": TaskError.__init__,
        "__str__": TaskError.__str__,
        "__repr__": lambda self: f"{type(self).__name__}({self.cause!r})",
        "__reduce__": TaskError.__reduce__,
        "__module__": TaskError.__module__,
        "__doc__": f"A remote {cause_class.__name__}.",
    }
    ways: list[dict[str, Any]] = [{}, {"__new__": _create_bare}]
    if _GROUP is not None and issubclass(cause_class, _GROUP):
        ways = [{"__new__": _create_group}]
    for way in ways:
        try:
            combined = type(f"TaskError({cause_class.__name__})", (TaskError, cause_class), namespace | way)
            if "__new__" not in way or way["__new__"] is _create_bare:
                # A class may accept subclassing and still refuse instances: find out here, once.
                combined.__new__(combined)  # type: ignore[call-overload]
            return combined
        except Exception:
            continue
    return TaskError


def _create_bare(cls: type[BaseException], *args: Any, **kwargs: Any) -> BaseException:
    """For a class whose own `__new__` asks for arguments."""
    return Exception.__new__(cls)


def _create_group(cls: type[Any], cause: Any, *args: Any) -> Any:
    """An ExceptionGroup has its members from the beginning, so that `except*` finds them."""
    return _GROUP.__new__(cls, cause.message, cause.exceptions)


def rebuild_task_error(cause: BaseException, function: str, pid: int, remote_traceback: str) -> TaskError:
    """Make the error a caller gets to see from what the worker reported."""
    chosen = _combined_class(type(cause))
    try:
        error = chosen(cause, function, pid, remote_traceback)
        for name, value in getattr(cause, "__dict__", {}).items():
            if not name.startswith("__") or name == "__notes__":
                error.__dict__.setdefault(name, value)
        for name in _slots_of(type(cause)):
            if hasattr(cause, name):
                object.__setattr__(error, name, getattr(cause, name))
        error.args = cause.args
        return error
    except Exception:
        return TaskError(cause, function, pid, remote_traceback)


def _slots_of(cls: type) -> list[str]:
    """Return the names of the attributes that instances keep outside of their `__dict__`."""
    found: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return [name for name in found if name not in ("__dict__", "__weakref__")]


# The names a program written for Ray expects.
RayError = OrchestratorError
RayTaskError = UserCodeException = TaskError
RayActorError = ActorError
RaySystemError = InternalError
LocalRayletDiedError = NodeDiedError
PlasmaObjectNotAvailable = ObjectLostError
ObjectRefStreamEndOfStreamError = StopIteration
StreamingGeneratorReplayInconsistentError = ReplayInconsistentError
OufOfBandObjectRefSerializationException = OutOfBandReferenceError  # spelled so there
RayChannelError = ChannelError
RayChannelTimeoutError = ChannelTimeoutError
RayCgraphCapacityExceeded = GraphCapacityExceeded
RayDirectTransportError = DirectTransportError

__all__ = sorted(
    name
    for name, value in globals().items()
    if not name.startswith("_") and isinstance(value, type) and issubclass(value, BaseException)
)
