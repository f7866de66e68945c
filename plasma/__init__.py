"""plasma: a shared-memory object store, and message channels, for the processes of one machine.

    store = plasma.Store.create(1 << 30)     # or plasma.connect(path), where `python -m plasma serve` runs
    object_id = store.put({"image": array})  # written once, by one copy
    value = store.load(object_id)            # in any process: the array is a read-only view, uncopied

How the package is laid out, bottom-up: ``layout`` is the memory format; ``allocator``, ``object_table``,
``clients`` and ``pins`` manage parts of it; ``lifecycle`` has an object's states, and ``recovery`` alone
repairs after a death; ``store`` is the facade and ``channel`` the messages. ``serialization`` turns values
into bytes.
"""

from __future__ import annotations

import sys

if not sys.platform.startswith("linux"):
    raise ImportError(
        f"plasma needs Linux (memfd, futexes, robust locks); this is {sys.platform}. "
        "On macOS and Windows use a Linux container or virtual machine."
    )

try:
    from plasma.buffer import Allocation, Buffer
    from plasma.store import Store
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("plasma."):
        raise
    from pathlib import Path

    _root = Path(__file__).resolve().parent.parent
    raise ImportError(
        f"plasma isn't compiled ({error.name} is missing). Build it in place with:\n\n"
        f"    cd {_root} && {sys.executable} -m pip install -e .\n\n"
        f"If it is installed already: Python has found these sources first; leave {_root}."
    ) from error

from typing import TYPE_CHECKING

from plasma.default import connect, empty, get, put, use
from plasma.errors import (
    CorruptStoreError,
    ForkedStoreError,
    GetTimeoutError,
    InternalError,
    LayoutVersionError,
    MessageTooLargeError,
    NotAStoreError,
    NotOwnerError,
    ObjectExistsError,
    ObjectLostError,
    ObjectNotFoundError,
    ObjectNotSealedError,
    ObjectSealedError,
    ObjectStoreFullError,
    ObjectTooLargeError,
    OutOfDiskError,
    PeerDiedError,
    PlasmaError,
    SerializationError,
    SpilledObjectLostError,
    StoreClosedError,
    TableFullError,
    TooManyClientsError,
    UsageError,
    WorldError,
)
from plasma.states import ABSENT, CREATED, FREED, LOST, PENDING, SEALED, SPILLED

if TYPE_CHECKING:
    from plasma.server import Server, serve

__all__ = [
    "ABSENT",
    "CREATED",
    "FREED",
    "LOST",
    "PENDING",
    "SEALED",
    "SPILLED",
    "Allocation",
    "Buffer",
    "CorruptStoreError",
    "ForkedStoreError",
    "GetTimeoutError",
    "InternalError",
    "LayoutVersionError",
    "MessageTooLargeError",
    "NotAStoreError",
    "NotOwnerError",
    "ObjectExistsError",
    "ObjectLostError",
    "ObjectNotFoundError",
    "ObjectNotSealedError",
    "ObjectSealedError",
    "ObjectStoreFullError",
    "ObjectTooLargeError",
    "OutOfDiskError",
    "PeerDiedError",
    "PlasmaError",
    "SerializationError",
    "Server",
    "SpilledObjectLostError",
    "Store",
    "StoreClosedError",
    "TableFullError",
    "TooManyClientsError",
    "UsageError",
    "WorldError",
    "connect",
    "empty",
    "get",
    "put",
    "serve",
    "use",
]


def __getattr__(name: str) -> object:
    """Import the server when it is asked for: most users of a store need neither sockets nor logging."""
    if name in ("Server", "serve"):
        from plasma import server

        value: object = getattr(server, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
