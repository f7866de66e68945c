"""`get`, `put`, `cancel`, `kill`, `get_actor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from orchestrator import exceptions
from orchestrator.api.session import ensure_runtime
from orchestrator.core import object_access
from orchestrator.core.cancellation import cancel_object
from orchestrator.core.entry import PLAIN
from orchestrator.core.generators import ObjectRefGenerator
from orchestrator.core.object_ref import ObjectRef

if TYPE_CHECKING:
    from orchestrator.api.actor_handle import ActorHandle

T = TypeVar("T")


@overload
def get(refs: ObjectRef[T], *, timeout: float | None = None, writable: bool = False) -> T: ...
@overload
def get(refs: list[ObjectRef[T]], *, timeout: float | None = None, writable: bool = False) -> list[T]: ...
def get(refs: Any, *, timeout: float | None = None, writable: bool = False) -> Any:
    """Return the value of a reference, or the values of a list of them in order.

    Waits for what is not there yet. Of a list, the first error to become known is raised at once.
    Arrays in the result are read-only views of shared memory.

    Args:
        refs: a reference or a list of references.
        timeout: seconds to wait; None, or a negative number, waits for ever, 0 only looks.
        writable: make arrays and other buffers in the result writable. Nobody else sees what is written;
            of a large object only those pages are copied that are written to.

    Raises:
        GetTimeoutError: time ran out; the text says what each reference waits for.
        TaskError: the task raised; also an instance of the class it raised.
        ActorDiedError, WorkerCrashedError, TaskCancelledError, ObjectLostError: as they say.
        TypeError: not a reference or a list of references.
    """
    if type(refs) is ObjectRef:
        entry = refs._entry
        runtime = refs._runtime
        if entry.state == PLAIN and runtime.open:
            return entry.value
        if writable:
            return object_access.writable_values(runtime, [refs], timeout)[0]
        return runtime.get_one(refs, timeout)
    if isinstance(refs, list):
        if not refs:
            ensure_runtime()
            return []
        for ref in refs:
            if type(ref) is not ObjectRef:
                if all(hasattr(one, "__orchestrator_get__") for one in refs):
                    return [one.__orchestrator_get__(timeout) for one in refs]
                raise exceptions.ReferenceTypeError(
                    f"get() takes references; the list has an item of type {type(ref).__name__}"
                )
            if not ref._runtime.open:
                ref._runtime.check_alive()
        if writable:
            return object_access.writable_values(refs[0]._runtime, refs, timeout)
        return refs[0]._runtime.get_many(refs, timeout)
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if hasattr(refs, "__orchestrator_get__"):
        return refs.__orchestrator_get__(timeout)
    raise exceptions.ReferenceTypeError(
        f"get() takes a reference or a list of them, not {type(refs).__name__}"
    )


def put(value: T, *, name: str | None = None, namespace: str | None = None) -> ObjectRef[T]:
    """Store a value and return a reference to it.

    Args:
        value: anything that can be pickled.
        name: have the session keep the object under this name, whoever made it and whatever becomes of the
            references; `get_object` finds it, `forget_object` lets it go.
        namespace: where the name belongs; the session's unless given.

    Raises:
        TypeError: the value is a reference itself.
        SerializationError: it cannot be pickled; the text has the path to the culprit.
        ObjectStoreFullError: no room for it.
        OutOfDiskError: no room for it, and none on the disk for others.
        ValueError: an object has this name.
    """
    runtime = ensure_runtime()
    if type(value) is ObjectRef:
        raise TypeError(
            "put() of a reference: the value is in the store already; put it into a list to wrap it"
        )
    ref: ObjectRef[T] = ObjectRef(runtime.put(value), runtime)
    if name is not None:
        from orchestrator.api.objects import name_object

        name_object(runtime, ref, name, namespace)
    return ref


def cancel(
    ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel a task: if it has not begun it never will, if it runs it is interrupted.

    Waiting for its result raises TaskCancelledError from now on. Nothing happens if it has finished.

    Args:
        ref: what the task's call returned.
        force: kill the worker instead of raising KeyboardInterrupt in it.
        recursive: cancel the tasks it has submitted as well.

    Raises:
        ValueError: `force` for an actor's call.
        TypeError: not a reference.
    """
    if isinstance(ref, ObjectRefGenerator):
        runtime = ref._runtime
        entry = ref._stream.completed
    elif type(ref) is ObjectRef:
        runtime = ref._runtime
        entry = ref._entry
    else:
        raise exceptions.ReferenceTypeError(f"cancel() takes a reference, not {type(ref).__name__}")
    runtime.check_alive()
    cancel_object(runtime, entry, force, recursive)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """Kill an actor at once; its calls, those under way and all to come, raise ActorDiedError.

    Raises:
        ArgumentTypeError: not an actor's handle; a TypeError and a ValueError.
    """
    from orchestrator.api.actor_handle import ActorHandle

    if not isinstance(actor, ActorHandle):
        raise exceptions.ArgumentTypeError(
            f"kill() takes an actor's handle, not {type(actor).__name__}; for tasks there is cancel()"
        )
    runtime = actor._orchestrator_runtime
    runtime.check_alive()
    runtime.actors.kill(actor._orchestrator_id, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Return a handle of the live actor with this name.

    Raises:
        ValueError: there is none, or the name or the namespace is empty.
        TypeError: either is no str.
    """
    from orchestrator.api.actor_handle import find_handle

    for what, text in (("name", name), ("namespace", namespace)):
        if text == "":
            raise ValueError(f"get_actor(): {what} must be a non-empty str")
        if not isinstance(text, str) and not (what == "namespace" and text is None):
            raise exceptions.ArgumentTypeError(f"get_actor(): {what} must be a str, not {text!r:.100}")
    runtime = ensure_runtime()
    space = namespace or runtime.info.get("namespace") or ""
    answer = runtime.node.ask({"op": "get_actor", "name": name, "namespace": space})
    if answer.get("found"):
        try:
            return find_handle(bytes.fromhex(answer["actor"]))
        except exceptions.ObjectLostError:
            pass  # it has ended meanwhile
    raise ValueError(f"no actor named {name!r} in namespace {space!r}")
