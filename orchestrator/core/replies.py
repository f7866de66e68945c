"""A worker's answers: results on their way back to whoever submitted the task."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.common import config
from orchestrator.common.ids import home_of, object_id
from orchestrator.core.entry import BLOB, ERROR, PLAIN, STORED
from orchestrator.core.messages import END, ITEM, LONG, MANY, PARTIAL, PROTOCOL
from orchestrator.core.values import dump_error, task_error
from orchestrator.exceptions import TaskError, UnserializableException
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import CONTROL, PeerDiedError, Sender

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

dumps = pickle.dumps

_ATOMS = frozenset({type(None), bool, int, float, complex})


class PartlyFailed(Exception):
    """A generator with a fixed number of items has failed after some of them: both go into the reply."""

    def __init__(self, packed: list[tuple[int, Any]], error: Exception) -> None:
        super().__init__()
        self.packed = packed
        self.error = error


class Replies:
    """Packs and sends replies, for one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._endpoint = runtime.endpoint
        self._senders: dict[int, Sender] = {}
        self._prefixes: dict[int, bytes] = {}

    def forked(self) -> None:
        """In a child that the task has forked: when it leaves the task's code it ends, without a reply."""

        def leave(address: int, seq: int, outcome: Any, *_: Any) -> NoReturn:
            code = 0
            if isinstance(outcome, SystemExit):
                code = outcome.code if type(outcome.code) is int else 0 if outcome.code is None else 1
            elif isinstance(outcome, BaseException):
                code = 1
                traceback.print_exception(outcome)
            sys.stdout.flush()
            os._exit(code)

        self.send = lambda *_: leave(0, 0, None)  # type: ignore[method-assign]
        vars(self).update(
            dict.fromkeys(("send_value", "send_many", "send_items", "send_error", "send_failure"), leave)
        )

    def forget(self, address: int) -> None:
        """A process has died: its channel is of no more use."""
        self._senders.pop(address, None)
        self._prefixes.pop(address, None)

    def send(self, address: int, reply: tuple[Any, ...]) -> None:
        """Send a reply; one whose submitter has died is dropped.

        Waits while the channel is full: a submitter that does not read slows its workers down.
        """
        try:
            sender = self._senders.get(address)
            if sender is None:
                sender = self._senders[address] = self._endpoint.sender(address, CONTROL)
            payload = dumps(reply, PROTOCOL)
            if len(payload) > config.MESSAGE_BYTES_MAX:
                payload = self._store_message(address, payload)
            while not sender.send(payload):
                # Read meanwhile: the receiver may be stuck in the same place, with this process's ring.
                self._runtime.pump.poll()
                self._endpoint.wait(0, 0.001, self._endpoint.bell())
        except PeerDiedError:
            self.forget(address)

    def _store_message(self, address: int, payload: bytes) -> bytes:
        """Put a reply that is too long for a channel into the store, for its receiver."""
        return dumps((LONG, self._runtime.elsewhere.store_message(address, payload)), PROTOCOL)

    def send_value(self, address: int, seq: int, value: Any, spent_us: int) -> None:
        """Send the result of a task with one return value."""
        kind = type(value)
        if kind in _ATOMS or ((kind is str or kind is bytes) and len(value) < config.PLAIN_TEXT_MAX):
            self.send(address, (seq, PLAIN, value, spent_us))
            return
        state, payload = self.pack(address, seq, 0, value)
        self.send(address, (seq, state, payload, spent_us))

    def pack(self, address: int, seq: int, index: int, value: Any) -> tuple[int, Any]:
        """Return (state, payload) of return value `index`; a large one is in the store afterwards.

        The payload of one that is stored for a process of another node says where it lies, and its size.

        Raises:
            SerializationError: the text has the path to what cannot be pickled.
            ObjectStoreFullError: no room for it.
        """
        kind = type(value)
        if kind in _ATOMS and kind is not int:
            return PLAIN, value
        state, payload, contained = self._runtime.references.pack(value, "return value")
        if state == BLOB:
            if len(payload) <= config.INLINE_BYTES_MAX:
                return BLOB, payload
            payload = objects.Serialized([payload], len(payload))
        prefix = self._prefixes.get(address)
        if prefix is None:
            prefix = self._prefixes[address] = self._runtime.elsewhere.prefix_of(address)
        identity = object_id(prefix, seq, index)
        try:
            objects.put_value(self._runtime.store, identity, payload, contained, owner=address)
        except objects.ObjectExistsError:
            pass  # stored by an earlier run of this task, whose reply was lost with its worker
        if home_of(identity) != self._runtime.here:
            # Before the reply: its receiver's node knows then where the bytes are.
            self._runtime.elsewhere.gave(identity, address, payload.size_bytes)
            return STORED, (self._runtime.here, payload.size_bytes)
        return STORED, None

    def send_many(self, address: int, seq: int, values: Any, count: int, spent_us: int) -> None:
        """Send the results of a task with `count` return values; each is packed as it is produced.

        Raises:
            PartlyFailed: a generator raised, or ended, after some of them, which are packed.
            ValueError: there are more, or fewer.
        """
        if count == 0:
            self.send(address, (seq, MANY, [], spent_us))
            return
        packed: list[tuple[int, Any]] = []
        try:
            self._pack_many(packed, address, seq, values, count)
        except Exception as error:
            # With all of them packed there would be no reference left for the error to show in.
            if 0 < len(packed) < count and isinstance(values, Generator):
                raise PartlyFailed(packed, error) from None
            raise
        self.send(address, (seq, MANY, packed, spent_us))

    def _pack_many(
        self, packed: list[tuple[int, Any]], address: int, seq: int, values: Any, count: int
    ) -> None:
        try:
            values = iter(values)
        except TypeError:
            raise ValueError(
                f"num_returns={count} needs an iterable of {count} values, not {type(values).__name__}"
            ) from None
        for value in values:
            if len(packed) == count:
                raise ValueError(f"num_returns={count}, but the function returned more values")
            packed.append(self.pack(address, seq, len(packed), value))
            # Packed, it is needed no more; a generator makes the next one while this name is bound.
            del value
        if len(packed) != count:
            raise ValueError(f"num_returns={count}, but the function returned {len(packed)} values")

    def send_item(self, address: int, seq: int, index: int, value: Any) -> None:
        """Send one item of a generator."""
        state, payload = self.pack(address, seq, index + 1, value)
        self.send(address, (seq, ITEM, (index, state, payload), 0))

    def send_items(self, address: int, seq: int, values: Iterator[Any], pause: Any, spent_us: int) -> None:
        """Send all items of a generator, calling `pause(count)` before each further one, and the end."""
        count = 0
        for value in values:
            self.send_item(address, seq, count, value)
            # The item is the receiver's now; keeping it here would double a generator's memory.
            del value
            count += 1
            pause(count)
        self.send(address, (seq, END, count, spent_us))

    def send_error(
        self,
        address: int,
        seq: int,
        error: BaseException,
        function: str,
        spent_us: int,
        packed: list[tuple[int, Any]] | None = None,
    ) -> None:
        """Send what user code raised, and the results that were packed before that."""
        self.send_failure(address, seq, task_error(error, function), spent_us, packed)

    def send_failure(
        self,
        address: int,
        seq: int,
        error: BaseException,
        spent_us: int = 0,
        packed: list[tuple[int, Any]] | None = None,
    ) -> None:
        """Send an error of the runtime itself, or one that is wrapped already."""
        blob = dump_error(error)
        if len(blob) > config.ERROR_BYTES_MAX:
            text = f"{str(error)[:20_000]} ... (cut: {len(blob)} bytes)"
            cause = error.cause if isinstance(error, TaskError) else error
            blob = dump_error(TaskError(UnserializableException(type(cause).__qualname__, text, "too large")))
        reply = (seq, PARTIAL, (packed, blob), spent_us) if packed else (seq, ERROR, blob, spent_us)
        self.send(address, reply)
