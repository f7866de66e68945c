import builtins
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer as AnyBuffer

from plasma.audit import Audit
from plasma.buffer import Allocation as Allocation
from plasma.buffer import Buffer as Buffer
from plasma.channel import Endpoint

class ObjectInfo(NamedTuple):
    """One object as ``Store.list`` saw it."""

    object_id: bytes
    state: str
    size_bytes: int
    allocated_bytes: int
    pins: int
    refs: int
    creator: int
    offset: int
    file: int

class HoldInfo(NamedTuple):
    """One record of the ledger as ``Store.holds`` saw it: a client, or an object, that keeps an object."""

    object_id: bytes
    #: address of the client; 0 when an object holds
    holder: int
    #: id of the object that contains this one
    parent: bytes | None
    pins: int
    refs: int
    #: an agent keeps it
    keeps: bool

@final
class Store:
    """A shared-memory object store, as one client of it."""

    @staticmethod
    def create(
        size_bytes: int | None = None,
        *,
        max_objects: int = 1048576,
        max_clients: int = 4096,
        name: str = "",
        spill_directory: str | None = None,
        agent: bool = False,
    ) -> Store:
        """A new store of ``size_bytes`` (default: 30 % of memory); when it is full, what is referenced goes to disk."""
    @staticmethod
    def attach(fd: int, *, name: str = "", agent: bool = False) -> Store:
        """Join the store whose segment ``fd`` is. NotAStoreError, LayoutVersionError, TooManyClientsError."""
    def stand_in(self, name: str = "") -> Store:
        """One more client of this process in the same mapping, an agent: it stands for somebody outside the store.

        A Store like any other, which may outlive this one. What agents hold keeps objects, and is no use of them:
        see ``keep``. TooManyClientsError.
        """
    @property
    def is_agent(self) -> bool:
        """This client acts for somebody outside the store."""
    def name_of(self, address: int) -> str | None:
        """The name of the client that lives at an address (31 bytes of it); None if none does."""
    @property
    def fd(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def spill_directory(self) -> str | None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def endpoint(self) -> Endpoint: ...
    def close(self) -> None:
        """Give back all this client holds. Views stay valid until they are gone."""
    def __enter__(self) -> Store: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def create_buffer(
        self,
        object_id: bytes,
        size_bytes: int,
        *,
        owner: int = 0,
        contained: Sequence[bytes] = (),
        referenced: bool = False,
        timeout_s: float | None = 0.0,
    ) -> Allocation:
        """Memory for a new object. ObjectExistsError, ObjectTooLargeError, ObjectStoreFullError, TableFullError."""
    def put_parts(
        self,
        object_id: bytes,
        parts: Sequence[AnyBuffer],
        *,
        owner: int = 0,
        contained: Sequence[bytes] = (),
        referenced: bool = False,
        timeout_s: float | None = 0.0,
        resident: bool = False,
    ) -> int:
        """Create, copy and seal in one call; each part starts at a multiple of 64. Returns the object's size in bytes.

        One that is ``resident`` never goes to disk.
        """
    def try_get(self, object_id: bytes) -> Buffer | None:
        """The sealed object, or None. ObjectLostError if it will never come."""
    def get(self, object_id: bytes, timeout_s: float | None = None) -> Buffer:
        """The sealed object, waiting for it. GetTimeoutError; with 0 ObjectNotFoundError, ObjectNotSealedError."""
    def wait(
        self, object_ids: builtins.list[bytes], count: int = 1, timeout_s: float | None = None
    ) -> tuple[builtins.list[bytes], builtins.list[bytes]]:
        """(ready, rest), both in the given order, once ``count`` are sealed or lost, or the time is over."""
    def state(self, object_id: bytes) -> int: ...
    def size_of(self, object_id: bytes) -> int | None:
        """Bytes of an object that is here, in memory or on disk; None: it is not."""
    def contains(self, object_id: bytes) -> bool: ...
    def watch(self, object_id: bytes) -> int:
        """The state; a seal or loss to come will ring this client's bell."""
    def unwatch(self, object_id: bytes) -> None: ...
    def declare(self, object_id: bytes, owner: int = 0) -> None:
        """Promise an object and take a reference on it, in the name of ``owner`` (0: this client).

        The promise is this client's in any case, until the object is sealed or abandoned, or nobody holds it. PeerDiedError
        (owner), ObjectExistsError while a deleted object of that id is still held.
        """
    def abandon(self, object_id: bytes) -> bool:
        """Break the promise: whoever waits gets ObjectLostError."""
    def renew(self, object_id: bytes, owner: int = 0) -> bool:
        """Promise once more what is held and has lost its data; False when it is here, promised, or not held."""
    def knows(self, object_id: bytes) -> bool:
        """True while anybody holds the object or waits for it, even if its data is gone."""
    def add_ref(self, object_id: bytes) -> bool:
        """Take a reference; False if the store doesn't know the object."""
    def take_ref(self, object_id: bytes) -> int:
        """Like ``add_ref``, and returns the object's state; ABSENT if the store doesn't know it."""
    def drop_ref(self, object_id: bytes) -> None:
        """Give a reference back; the last one frees the object. NotOwnerError if this client has none."""
    def keep(self, object_id: bytes) -> int:
        """Keep an object, whoever drops his references, until ``unkeep``. Returns its state.

        For agents (else UsageError). An unknown object becomes PENDING, promised by this client; what is deleted already is
        not kept: ABSENT or FREED. When it loses its last use, ``take_unneeded`` tells its id.
        """
    def unkeep(self, object_id: bytes) -> None:
        """Give the keep up; the object goes unless somebody else holds it. NotOwnerError if this client doesn't keep it."""
    def unkeep_if_unneeded(self, object_id: bytes) -> bool:
        """Like ``unkeep``, unless the object is in use: then False, and nothing changes."""
    def is_needed(self, object_id: bytes) -> bool:
        """True while the object is in use: a client that is no agent holds or awaits it, or an object contains it."""
    def take_unneeded(self, limit: int = 256) -> builtins.list[bytes]:
        """Ids of objects that this client keeps and that have lost their last use; its bell rang when they did."""
    def drop_copy(self, object_id: bytes) -> bool:
        """Give up the data of an object that this client keeps: it is PENDING, and who holds it goes on holding it.

        False: it is pinned, or there is no data. NotOwnerError if this client doesn't keep it.
        """
    def extent(self, buffer: Buffer | Allocation) -> tuple[int, int]:
        """(offset, size) of its bytes in the file ``fd``, for sendfile() and its like, while it lives.

        ValueError when it was released, or is another store's.
        """
    def delete(self, object_id: bytes) -> None: ...
    def free(self, object_id: bytes) -> None:
        """Like ``delete``, for good: who holds references sees the state FREED, and nobody makes it again."""
    def put(self, value: Any, object_id: bytes | None = None) -> bytes:
        """Store a value and return its id; an array from ``empty`` is only sealed."""
    def load(self, object_id: bytes, timeout_s: float | None = None) -> Any:
        """The value; arrays in it are read-only views of shared memory. Errors as in ``get``."""
    def empty(
        self,
        shape: int | tuple[int, ...],
        dtype: npt.DTypeLike = ...,
        *,
        order: Literal["C", "F"] = "C",
        object_id: bytes | None = None,
        timeout_s: float | None = 0.0,
    ) -> np.ndarray[Any, Any]:
        """An array in the store: fill it, then ``put`` it without a copy."""
    def release(self, buffer: Buffer) -> None: ...
    def reap(self) -> int:
        """Drop all that dead clients held. Returns how many were found."""
    def reap_client(self, address: int) -> bool: ...
    def trim(self) -> int:
        """Return the pages of free memory to the kernel; how many bytes."""
    def list(self) -> builtins.list[ObjectInfo]: ...
    def holds(self) -> builtins.list[HoldInfo]:
        """Who keeps what: a client by its address, or an object by its id."""
    def clients(self) -> builtins.list[dict[str, Any]]: ...
    def audit(self) -> Audit: ...
    def stats(self, objects: bool = True) -> dict[str, int]: ...
