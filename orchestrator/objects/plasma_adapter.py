"""The only door to plasma: the store, the channels and the serialization the runtime uses.

Names pass through where plasma's own class is what the hot path needs; what differs is wrapped
here, above all plasma's errors, which become the runtime's own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import plasma.errors
from orchestrator import exceptions
from orchestrator.common.config import STORE_FULL_TIMEOUT_S
from plasma.buffer import writable
from plasma.channel import Endpoint, Sender
from plasma.culprit import parts
from plasma.errors import (
    CorruptStoreError,
    MessageTooLargeError,
    ObjectExistsError,
    ObjectLostError,
    PeerDiedError,
    PlasmaError,
)
from plasma.errors import ObjectStoreFullError as PlasmaFullError
from plasma.errors import OutOfDiskError as PlasmaOutOfDiskError
from plasma.errors import SerializationError as PlasmaSerializationError
from plasma.errors import SpilledObjectLostError as PlasmaSpilledObjectLostError
from plasma.hold import Handle, Hold, StoreLink, handles
from plasma.plain import is_plain
from plasma.serialization import (
    Serialized,
    deregister,
    deserialize,
    loads,
    pickling_error,
    register,
    serialize,
)
from plasma.store import Store

#: Where plasma's own files are.
PLASMA_DIRECTORY = os.path.dirname(os.path.abspath(plasma.errors.__file__))

CONTROL = 0
WORK = 1
CONTROL_MASK = 1 << CONTROL
WORK_MASK = 1 << WORK

#: States of an object; anything at or above SEALED is decided.
ABSENT, PENDING, CREATED, SEALED, SPILLED, LOST = range(6)
#: given up on purpose, with references left
FREED = 7


def put_value(
    store: Store, object_id: bytes, serialized: Serialized, contained: Sequence[bytes] = (), owner: int = 0
) -> None:
    """Store a serialized value, with one reference for `owner` (an address; 0: this process).

    Waits a little for room when everything in the store is in use.

    Raises:
        ObjectStoreFullError: no room, or larger than the whole store.
        OutOfDiskError: no room, and the disk takes nothing either.
    """
    put_parts(store, object_id, serialized.parts, contained, owner)


def put_parts(
    store: Store,
    object_id: bytes,
    parts: Sequence[Any],
    contained: Sequence[bytes] = (),
    owner: int = 0,
    *,
    resident: bool = False,
) -> None:
    """Like `put_value`, of bytes that are laid out already.

    What the session itself lives on is `resident`: it is small, and no file that is lost takes it along.
    """
    try:
        store.put_parts(
            object_id,
            parts,
            owner=owner,
            contained=contained,
            referenced=True,
            timeout_s=STORE_FULL_TIMEOUT_S,
            resident=resident,
        )
    except PlasmaFullError as error:
        raise full_error(error) from None


def full_error(error: PlasmaFullError) -> exceptions.OrchestratorError:
    """Return the runtime's own error for a store that has no room."""
    if isinstance(error, PlasmaOutOfDiskError):
        return exceptions.OutOfDiskError(f"{error} (init(object_spilling_directory=...) says where)")
    return exceptions.ObjectStoreFullError(f"{error} (its size is init(object_store_memory=...))")


def lost_error(store: Store, object_id: bytes, text: str) -> exceptions.ObjectLostError:
    """Return the error of an object that is lost, of the class that says how."""
    try:
        store.try_get(object_id)
    except PlasmaSpilledObjectLostError as error:
        return exceptions.SpilledObjectLostError(f"{text}; {error}")
    except PlasmaError:
        pass
    return exceptions.ObjectLostError(text)


def rebuild_error(error: PlasmaError) -> exceptions.SerializationError:
    """Return the runtime's own error for a value that cannot be rebuilt here."""
    return exceptions.SerializationError(str(error))


def encode(value: Any, name: str = "value") -> Serialized:
    """Serialize a value.

    Raises:
        SerializationError: naming the path from `name` to what cannot be pickled.
    """
    try:
        return serialize(value, name=name)
    except PlasmaSerializationError as error:
        raise exceptions.SerializationError(str(error)) from error.__cause__


__all__ = [
    "ABSENT",
    "CONTROL",
    "CONTROL_MASK",
    "CREATED",
    "FREED",
    "LOST",
    "PENDING",
    "PLASMA_DIRECTORY",
    "SEALED",
    "SPILLED",
    "WORK",
    "WORK_MASK",
    "CorruptStoreError",
    "Endpoint",
    "Handle",
    "Hold",
    "MessageTooLargeError",
    "ObjectExistsError",
    "ObjectLostError",
    "PeerDiedError",
    "PlasmaError",
    "PlasmaFullError",
    "PlasmaSerializationError",
    "PlasmaSpilledObjectLostError",
    "Sender",
    "Serialized",
    "Store",
    "StoreLink",
    "deregister",
    "deserialize",
    "encode",
    "full_error",
    "handles",
    "is_plain",
    "loads",
    "lost_error",
    "parts",
    "pickling_error",
    "put_parts",
    "put_value",
    "rebuild_error",
    "register",
    "writable",
]
