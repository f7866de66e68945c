"""From a call's arguments to a message.

References at the top level become values before the task runs, so the task waits for them here, at
the submitter. References further inside stay references. What the message refers to is kept
alive by the task until the reply.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common.config import INLINE_BYTES_MAX, MESSAGE_BYTES_MAX
from orchestrator.common.ids import object_id
from orchestrator.common.priority import ARGUMENT
from orchestrator.core.entry import BLOB, ERROR, PENDING, PLAIN, STORED, Entry
from orchestrator.core.messages import LONG, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.task import WAITING, Dependencies
from orchestrator.core.values import StoredError
from orchestrator.exceptions import OrchestratorError, SerializationError
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Hold, is_plain

if TYPE_CHECKING:
    from orchestrator.core.references import References
    from orchestrator.core.task import Task
    from orchestrator.objects.plasma_adapter import Store

dumps = pickle.dumps


class Arguments(Part):
    """Packs the arguments of tasks, for one process."""

    def __init__(
        self, store: Store, references: References, prefix: bytes, next_seq: Callable[[], int]
    ) -> None:
        self._store = store
        self._references = references
        self._prefix = prefix
        self._next_seq = next_seq

    def pack(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], on_ready: Callable[[Task], None]
    ) -> None:
        """Make the task's message, or note what it still waits for.

        When references among the arguments are not there yet, `on_ready(task)` is called once they
        are, maybe in another thread; `task.place` is WAITING until then.

        Raises:
            SerializationError: an argument cannot be pickled.
            SessionError: a reference among them is another session's.
            ObjectStoreFullError: the arguments are large and the store has no room.
        """
        template = task.template
        dependencies: list[tuple[int | str, Entry]] = []
        if ObjectRef in map(type, args):
            plain = list(args)
            for position, value in enumerate(args):
                if type(value) is ObjectRef:
                    if not value._runtime.open:
                        value._runtime.check_alive()
                    dependencies.append((position, value._entry))
                    plain[position] = None
            args = tuple(plain)
        if kwargs and ObjectRef in map(type, kwargs.values()):
            kwargs = dict(kwargs)
            for name, value in kwargs.items():
                if type(value) is ObjectRef:
                    if not value._runtime.open:
                        value._runtime.check_alive()
                    dependencies.append((name, value._entry))
                    kwargs[name] = None

        packed: tuple[Any, ...] = (args, kwargs, None, None)
        if not (is_plain(args) and (not kwargs or is_plain(kwargs))):
            packed = self._serialize(task, args, kwargs)
        if not dependencies:
            message = dumps((task.seq, template.key, *packed, None, template.options), PROTOCOL)
            if len(message) > MESSAGE_BYTES_MAX:
                packed = self._serialize(task, args, kwargs, inline_max=0)
                message = dumps((task.seq, template.key, *packed, None, template.options), PROTOCOL)
            task.message = message
            return
        task.packed = (packed, dependencies)
        self._await(task, dependencies, on_ready)

    def _serialize(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], inline_max: int = INLINE_BYTES_MAX
    ) -> tuple[Any, ...]:
        gathering = self._references.gathering
        outer, gathering.met = gathering.met, []
        try:
            try:
                serialized = objects.encode((args, kwargs))
            except SerializationError:
                # One of them is to blame: say which.
                for place, value in (*enumerate(args), *kwargs.items()):
                    objects.encode(value, f"argument {place!r} of {task.template.name}")
                raise
            met = gathering.met
        finally:
            gathering.met = outer
        if serialized.size_bytes <= inline_max:
            task.held = met
            return (None, None, serialized.to_bytes(), None)
        identity = object_id(self._prefix, self._next_seq())
        objects.put_value(self._store, identity, serialized, [held.hold.object_id for held in met])
        task.held = Hold(self._references.link, identity)
        return (None, None, None, identity)

    def _await(
        self, task: Task, dependencies: list[tuple[int | str, Entry]], on_ready: Callable[[Task], None]
    ) -> None:
        unready = [entry for _, entry in dependencies if entry.state == PENDING]
        if not unready:
            self.resolve(task)
            return
        self.wait_for(task, unready, on_ready)

    def wait_for(self, task: Task, unready: list[Entry], on_ready: Callable[[Task], None]) -> None:
        """Call `on_ready(task)` when all these entries are done; the task is WAITING until then."""
        task.place = WAITING
        # One more than there are, so that nothing becomes ready before all callbacks are set; a
        # list because its pop is atomic, whichever threads the results arrive in.
        countdown = [None] * len(unready)

        def arrived(_: Entry) -> None:
            try:
                countdown.pop()
            except IndexError:
                on_ready(task)

        for entry in unready:
            entry.when_done(arrived)
            self._references.watch(entry, ARGUMENT)
        arrived(unready[0])

    def resolve(self, task: Task) -> Any:
        """Put values in the place of references and make the message.

        Returns the error of a dependency that failed, if any: the task must not run then.
        """
        packed, dependencies = task.packed
        room = INLINE_BYTES_MAX - (len(packed[2]) if packed[2] else 0)
        resolved = []
        kept: list[Any] = []
        for place, entry in dependencies:
            state = entry.state
            if state == ERROR:
                return entry.value
            value = entry.value
            if state == BLOB or (state == PLAIN and type(value) in (str, bytes)):
                room -= len(value)
            # PENDING: it was lost meanwhile and is being made again; the worker will wait for it.
            if state in (STORED, PENDING) or room < 0:
                state, value = STORED, self._references.promote(entry)
                kept.append(entry)
            resolved.append((place, state, value))
        task.held = Dependencies(task.held, kept)
        task.packed = None
        message = (task.seq, task.template.key, *packed, resolved, task.template.options)
        payload = dumps(message, PROTOCOL)
        if len(payload) > MESSAGE_BYTES_MAX:
            payload, hold = self._store_message(task, payload)
            kept.append(hold)
        task.message = payload
        return None

    def _store_message(self, task: Task, payload: bytes) -> tuple[bytes, Hold]:
        """Put a message that is too long for a channel (it has thousands of references) into the store."""
        identity = object_id(self._prefix, self._next_seq())
        objects.put_parts(self._store, identity, [payload], resident=True)
        return dumps((task.seq, LONG, identity), PROTOCOL), Hold(self._references.link, identity)


class DependencyError(OrchestratorError):
    """An argument of the task is the error of the task that should have produced it."""

    def __init__(self, stored: StoredError) -> None:
        super().__init__(stored)
        self.stored = stored

    def __str__(self) -> str:
        return f"an argument can't be had: {self.stored.rebuild()}"


def load_argument(data: Any) -> Any:
    """Return the value in bytes or a buffer.

    Raises:
        DependencyError: it is the error of the task that should have produced it.
        SerializationError: it cannot be rebuilt here.
    """
    try:
        value = objects.deserialize(data)
    except objects.PlasmaSerializationError as error:
        raise objects.rebuild_error(error) from error.__cause__
    if type(value) is StoredError:
        raise DependencyError(value)
    return value


def load_writable_argument(data: Any) -> Any:
    """Like `load_argument`; what is written to the value nobody else sees."""
    return load_argument(objects.writable(data))


def unpack(
    message: tuple[Any, ...], fetch: Callable[[bytes], Any], load_blob: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the (args, kwargs) of a task's message, in the worker.

    `fetch` returns the buffer of an object; `load_blob` turns bytes or a buffer into a value, or raises the
    error stored in it.
    """
    _, _, args, kwargs, blob, stored, resolved, _ = message
    if blob is not None:
        args, kwargs = load_blob(blob)
    elif stored is not None:
        args, kwargs = load_blob(fetch(stored))
    if resolved is not None:
        filled = list(args)
        kwargs = dict(kwargs)
        for place, state, value in resolved:
            if state == BLOB:
                value = load_blob(value)
            elif state == STORED:
                value = load_blob(fetch(value))
            if type(place) is int:
                filled[place] = value
            else:
                kwargs[place] = value
        args = tuple(filled)
    return args, kwargs
