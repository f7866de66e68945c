"""The transfer's door to the store of its node: memory for what comes, and the bytes of what goes."""

from __future__ import annotations

from typing import Any

from orchestrator.transfer.events import Refusal
from plasma.errors import (
    ObjectExistsError,
    ObjectStoreFullError,
    ObjectTooLargeError,
    PlasmaError,
    TableFullError,
)
from plasma.states import CREATED, SEALED, SPILLED


class Refused(Exception):
    """The store gives no memory; `refusal` says of which kind that is."""

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal
        self.why = why


class TransferStore:
    """What the transfer needs of a plasma store. Its methods may be called from any thread."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def file(self) -> int:
        """The descriptor of the segment, in which `extent` is."""
        return int(self._store.fd)

    @property
    def size_bytes(self) -> int:
        """How much it holds at all."""
        return int(self._store.size_bytes)

    def create(self, object_id: bytes, size_bytes: int) -> Any:
        """Return memory for a new object: an `Allocation`. It evicts and spills what must go for it.

        Raises:
            Refused: there is none.
        """
        try:
            return self._store.create_buffer(object_id, size_bytes)
        except ObjectExistsError as error:
            state = self._store.state(object_id)
            raise Refused(
                Refusal.PRESENT if state in (SEALED, SPILLED) else Refusal.BEING_MADE, str(error)
            ) from None
        except ObjectTooLargeError as error:
            raise Refused(Refusal.NEVER, str(error)) from None
        except (ObjectStoreFullError, TableFullError) as error:
            raise Refused(Refusal.FULL, str(error)) from None
        except (PlasmaError, OSError) as error:
            raise Refused(Refusal.NEVER, f"{type(error).__name__}: {error}") from None

    def find(self, object_id: bytes) -> Any | None:
        """Return a buffer on a sealed object, restored from disk if need be; None: it is not here."""
        try:
            return self._store.try_get(object_id)
        except (PlasmaError, OSError):
            return None

    def is_here(self, object_id: bytes) -> bool:
        """Return whether it is here, in memory or on disk."""
        return bool(self._store.contains(object_id))

    def is_being_made(self, object_id: bytes) -> bool:
        """Return whether somebody on this node is filling it now."""
        return bool(self._store.state(object_id) == CREATED)

    def extent(self, buffer: Any) -> tuple[int, int] | None:
        """Return (offset in `file`, bytes) of a buffer; None: it is mapped from where it was spilled to."""
        if isinstance(buffer, memoryview):
            return None
        extent: tuple[int, int] = self._store.extent(buffer)
        return extent
