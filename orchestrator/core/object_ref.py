"""`ObjectRef`: the name of a value that may not exist yet."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from orchestrator.common.ids import JobID, TaskID, first_result_of
from orchestrator.core import runtime as runtimes
from orchestrator.core.awaiting import wait_in_loop
from orchestrator.core.entry import ERROR, PENDING, Entry
from orchestrator.core.references import MissingObject, entry_of
from orchestrator.objects.plasma_adapter import Handle, Hold

if TYPE_CHECKING:
    import concurrent.futures

    from orchestrator.core.runtime import Runtime

T = TypeVar("T", covariant=True)


class ObjectRef(Handle, Generic[T]):
    """A reference to an object: the result of a task, or a value that was `put`.

    While any process holds a reference the object lives; when the last one goes, its memory is
    free at once. References may be passed to tasks, put into other objects and awaited.
    """

    __slots__ = ()

    _entry: Entry
    _runtime: Runtime

    if TYPE_CHECKING:

        def __init__(self, known: Entry | Hold, runtime: Runtime) -> None: ...

    def _open(self, hold: Hold) -> Entry:
        return entry_of(hold)

    def binary(self) -> bytes:
        """Return the object's id, 16 bytes."""
        return self._runtime.id_of(self._entry)

    def hex(self) -> str:
        """Return the object's id as 32 hexadecimal digits."""
        return self.binary().hex()

    def is_nil(self) -> bool:
        """Tell whether this names nothing; no reference does."""
        return False

    def task_id(self) -> TaskID:
        """Return the id of the task that produces the object, which is the id of its first result."""
        return TaskID(first_result_of(self.binary()))

    def job_id(self) -> JobID:
        """Return the id of the job that this code works for, as `get_runtime_context().get_job_id()`."""
        return JobID.from_hex(self._runtime.info.get("job", self._runtime.session))

    def owner_address(self) -> bytes:
        """Return what names the process that owns the object: the same for all of its objects."""
        return self.binary()[:8]

    def call_site(self) -> str:
        """Return where the reference was made: an empty text, as that is not recorded."""
        return ""

    def done(self) -> bool:
        """Tell whether `get` would return, or raise, at once."""
        entry = self._entry
        if entry.state == PENDING:
            self._runtime.check_alive()
            self._runtime.references.watch(entry)
            self._runtime.pump.poll()
        return bool(entry.state)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait, then return the exception `get` would raise, or None.

        Raises:
            GetTimeoutError: `timeout` seconds passed.
        """
        try:
            self._runtime.get_one(self, timeout)
        except BaseException as error:
            entry = self._entry
            if entry.state == PENDING or not isinstance(error, Exception):
                raise
            return error
        return None

    def add_done_callback(self, callback: Callable[[ObjectRef[T]], Any]) -> None:
        """Call `callback(ref)` once the object is there or has failed; at once if it is.

        Otherwise it is called in a thread for callbacks, one after the other; it may wait for other
        objects and submit tasks.
        """
        runtime = self._runtime
        runtime.check_alive()
        entry = self._entry
        if entry.state != PENDING:
            runtime.call_user(callback, self)
            return
        # Made now: a reference that comes to life when the session ends would be refused.
        ref: ObjectRef[T] = ObjectRef(entry, runtime)
        callbacks = runtime.callbacks
        entry.when_done(lambda _: callbacks.add(callback, ref))
        runtime.references.watch(entry)

    def _on_completed(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback` with the value, or with the exception."""

        def call(ref: ObjectRef[T]) -> None:
            error = ref.exception()
            callback(error if error is not None else ref._runtime.value_of(ref._entry))

        self.add_done_callback(call)

    def as_future(self) -> Any:
        """Return an asyncio future of the value, of the loop that is running."""
        import asyncio

        return asyncio.wrap_future(self.future())

    def future(self) -> concurrent.futures.Future[T]:
        """Return a `concurrent.futures.Future` of the value. Cancelling it does not cancel the task."""
        import concurrent.futures

        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def fill(ref: ObjectRef[T]) -> None:
            if future.cancelled():
                future.set_running_or_notify_cancel()
                return
            try:
                value = ref._runtime.value_here(ref._entry)
            except MissingObject:
                # Whoever calls this does not wait until the object has been made again.
                ref._runtime.references.recover(ref._entry)
                ref.add_done_callback(fill)
            except BaseException as error:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            else:
                if future.set_running_or_notify_cancel():
                    future.set_result(value)

        self.add_done_callback(fill)
        return future

    def __await__(self) -> Generator[Any, None, T]:
        entry = self._entry
        runtime = self._runtime
        while True:
            if entry.state == PENDING:
                runtime.check_alive()
                yield from wait_in_loop(entry, runtime.references)
            try:
                return runtime.value_here(entry)  # type: ignore[no-any-return]
            except MissingObject:
                runtime.references.recover(entry)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectRef):
            return NotImplemented
        return self._entry is other._entry or self.binary() == other.binary()

    def __hash__(self) -> int:
        return hash(self.binary())

    def __repr__(self) -> str:
        entry = self._entry
        state = "pending" if entry.state == PENDING else "failed" if entry.state == ERROR else "ready"
        return f"ObjectRef({self.hex()}, {state})"

    def __reduce__(self) -> tuple[Any, ...]:
        runtime = self._runtime
        runtime.check_alive()
        references = runtime.references
        met = references.gathering.met
        if met is None:
            return (rebuild_ref, (references.pin(self._entry),))
        identity = references.promote(self._entry)
        met.append(self._entry)
        return (rebuild_ref, (identity,))

    def __copy__(self) -> ObjectRef[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ObjectRef[T]:
        return self


def rebuild_ref(identity: bytes) -> ObjectRef[Any]:
    """Make the reference a process gets when it unpickles one."""
    runtime = runtimes.require()
    return ObjectRef(runtime.references.receive(identity), runtime)
