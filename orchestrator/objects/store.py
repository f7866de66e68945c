"""What the runtime needs from an object store, as a Protocol; the adapter provides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class ObjectStore(Protocol):
    """A table of immutable objects shared by the processes of one node, with counted references.

    References belong to the calling process and are dropped for it when it dies. The last one gone
    frees the object at once.
    """

    @property
    def address(self) -> int:
        """This process's address on the node's channels."""

    def put_parts(
        self,
        object_id: bytes,
        parts: Sequence[Any],
        *,
        owner: int = ...,
        contained: Sequence[bytes] = ...,
        resident: bool = ...,
    ) -> int:
        """Store and seal an object, with one reference for `owner` (0: this process). Returns bytes.

        One that is `resident` never goes to disk.
        """

    def try_get(self, object_id: bytes) -> Any | None:
        """Return a buffer that pins the sealed object, or None."""

    def declare(self, object_id: bytes) -> None:
        """Make an object known before it is produced, with one reference for this process."""

    def watch(self, object_id: bytes) -> int:
        """Return the object's state; its seal or loss will ring this process's bell."""

    def state(self, object_id: bytes) -> int:
        """Return the object's state."""

    def renew(self, object_id: bytes, owner: int = ...) -> bool:
        """Make an object that is held and has lost its data one that is promised again."""

    def knows(self, object_id: bytes) -> bool:
        """Tell whether anybody holds the object, even if its data is gone."""

    def add_ref(self, object_id: bytes) -> bool:
        """Take one reference; False when there is no such object."""

    def take_ref(self, object_id: bytes) -> int:
        """Take one reference, and return the object's state; ABSENT when there is no such object."""

    def drop_ref(self, object_id: bytes) -> None:
        """Give one reference back."""
