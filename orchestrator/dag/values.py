"""Values on their way between the processes of a compiled graph.

Small ones travel in the message. A large one is stored once, by whoever made it; each reader gets a
reference, recorded for it by the store in the step that makes the object, so that nobody's death leaves one
behind. A second reader's reference is an empty object of its own that holds the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.common import config
from orchestrator.common.ids import object_id
from orchestrator.core.entry import BLOB, PLAIN, STORED
from orchestrator.core.runtime import Runtime
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Serialized, deserialize, loads

#: Messages, all on lane CONTROL. The first goes from process to process, the others between graph and actor.
DATA = "graph_data"  # graph, number of the execution, slot, kind, payload
STOP = "graph_stop"  # graph
STOPPED = "graph_stopped"  # graph

Packed = tuple[int, Any]

_ATOMS = frozenset({type(None), bool, int, float, complex})


def pack(runtime: Runtime, value: Any, readers: Sequence[int], name: str) -> list[Packed]:
    """Return (kind, payload) for each reader, an address.

    Raises:
        SerializationError: the text has the path to what cannot be pickled.
        ObjectStoreFullError: no room for it.
    """
    kind = type(value)
    if kind in _ATOMS or ((kind is str or kind is bytes) and len(value) < config.PLAIN_TEXT_MAX):
        return [(PLAIN, value)] * len(readers)
    state, payload, contained = runtime.references.pack(value, name)
    if state == BLOB:
        if len(payload) <= config.INLINE_BYTES_MAX:
            return [(BLOB, payload)] * len(readers)
        payload = Serialized([payload], len(payload))
    return _store(runtime, payload, contained, readers)


def _store(
    runtime: Runtime, serialized: Serialized, contained: Sequence[bytes], readers: Sequence[int]
) -> list[Packed]:
    store = runtime.store
    identity = object_id(runtime.prefix, runtime.next_seq())
    first, *others = readers
    objects.put_value(store, identity, serialized, contained, owner=first)
    packed: list[Packed] = [(STORED, (identity, identity))]
    for reader in others:
        hold = object_id(runtime.prefix, runtime.next_seq())
        objects.put_parts(store, hold, [b"\0"], [identity], owner=reader)
        packed.append((STORED, (identity, hold)))
    return packed


def look(runtime: Runtime, kind: int, payload: Any) -> Any:
    """Return the value. Views of an object's memory keep that in place, and need no reference."""
    if kind == PLAIN:
        return payload
    if kind == BLOB:
        return loads(payload)
    return deserialize(runtime.store.get(payload[0], timeout_s=config.STORE_FULL_TIMEOUT_S))


def unpack(runtime: Runtime, kind: int, payload: Any) -> Any:
    """Return the value, and give its reference back."""
    try:
        return look(runtime, kind, payload)
    finally:
        release(runtime, kind, payload)


def release(runtime: Runtime, kind: int, payload: Any) -> None:
    """Give back the reference to a value that nobody will look at."""
    if kind == STORED:
        runtime.references.release(payload[1])
