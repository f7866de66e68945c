"""Every error the object store raises on purpose.

Three branches say who has to act:

* :class:`UsageError`: the caller did something the store does not allow. Fix the call.
* :class:`WorldError`: the call was right, the world was not (full, gone, late, dead, foreign). Handle it,
  or retry.
* :class:`InternalError`: the store's memory contradicts itself. Stop using the store and report it.

Some classes also derive from the builtin that callers already know (``LookupError``, ``TimeoutError``,
``TypeError``), so ``except KeyError``-style code keeps working.
"""

from __future__ import annotations

__all__ = [
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
    "SpilledObjectLostError",
    "StoreClosedError",
    "TableFullError",
    "TooManyClientsError",
    "UsageError",
    "WorldError",
]


class PlasmaError(Exception):
    """Base of all errors of the store. Catch it to catch everything the store raises on purpose."""


# --------------------------------------------------------------------------------------------- your mistake


class UsageError(PlasmaError):
    """The call itself is wrong. Retrying it unchanged fails again."""


class ObjectExistsError(UsageError):
    """An object with this id is already in the store.

    Objects are immutable: use a new id, or read the old one.
    """


class ObjectNotSealedError(UsageError):
    """The object is still being written.

    Wait for its seal (``get``), or ``seal()`` it if you are the writer.
    """


class ObjectSealedError(UsageError):
    """The object is sealed.

    It can't be sealed again nor written any more. Put a changed copy under a new id.
    """


class NotOwnerError(UsageError):
    """This client doesn't hold what it tries to give up (a reference, a pin, an unsealed object).

    Check who holds it.
    """


class StoreClosedError(UsageError):
    """``close()`` was called on this store before. Open the store again with ``connect`` or ``attach``."""


class ForkedStoreError(UsageError):
    """The store was opened before ``fork`` and is used in the child. Open it anew in the child."""


class MessageTooLargeError(UsageError):
    """A channel carries messages up to 128 KiB. Put the payload into the store and send its id."""


class SerializationError(UsageError, TypeError):
    """A value can't be stored, or a stored value can't be rebuilt.

    The message names the path from the value to the culprit, for example
    ``value['a'].pool -> _thread.lock``: leave that part out, or give its class a ``__reduce__``.
    Also raised when rebuilding fails: the buffer isn't a serialized value, a module or class it needs is
    missing, or code of the value raises; the cause is attached as ``__cause__``.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        #: the path to the culprit in Python notation, where one was found
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_serialization_error, (type(self), self.args, self.path)


def _rebuild_serialization_error(
    cls: type[SerializationError], args: tuple[str, ...], path: str | None
) -> SerializationError:
    """Unpickle without losing the keyword (exceptions rebuild from ``args`` alone otherwise)."""
    return cls(*args, path=path)


# --------------------------------------------------------------------------------------------- the world


class WorldError(PlasmaError):
    """The call is right, but the state of the store, of a peer or of the file system doesn't permit it."""


class ObjectStoreFullError(WorldError):
    """No room, and nothing left to evict or to move to disk.

    All objects are pinned, or referenced in a store that doesn't spill. Drop some, wait, or enlarge
    the store.
    """


class ObjectTooLargeError(ObjectStoreFullError):
    """The object is larger than the whole store, so waiting is useless.

    Create the store with a larger ``size_bytes``.
    """


class OutOfDiskError(ObjectStoreFullError):
    """No room, and the disk takes none of what is in the store either: it is full, or a quota is.

    Nothing is lost. Free disk space, choose another directory, or drop objects.
    """


class TableFullError(ObjectStoreFullError):
    """All ``max_objects`` entries of the object table are taken.

    Drop objects, or create the store with more entries.
    """


class TooManyClientsError(WorldError):
    """All ``max_clients`` slots are taken by living processes.

    Close some, or create the store with more slots.
    """


class ObjectNotFoundError(WorldError, LookupError):
    """The store doesn't know this id.

    Never stored, or freed after its last reference went. Check who keeps it alive.
    """


class ObjectLostError(WorldError):
    """The object will never arrive: its writer died or gave up. Produce it again."""


class SpilledObjectLostError(ObjectLostError):
    """The object had been moved to disk, and its file is missing or damaged. Produce it again."""


class GetTimeoutError(WorldError, TimeoutError):
    """The object wasn't sealed within ``timeout_s``.

    It may still come: wait again, or look why its producer is slow.
    """


class PeerDiedError(WorldError):
    """The process at the other end of the channel is gone.

    Its unread messages are lost; find out who replaces it.
    """


class NotAStoreError(WorldError):
    """The path, socket or file descriptor doesn't lead to a store.

    Missing, dead, foreign, truncated or garbage.
    """


class LayoutVersionError(NotAStoreError):
    """It is a store, but of another version of its memory layout.

    Use the same version of the package on both sides.
    """


# --------------------------------------------------------------------------------------------- our bug


class InternalError(PlasmaError):
    """An invariant of the store is broken, which is a bug of the store or of a stray write into its memory.

    Nothing read from this store can be trusted any more. Please report it,
    with what ``python -m plasma inspect PATH`` prints.
    """


class CorruptStoreError(InternalError):
    """The store's memory contradicts itself (damaged header, entry out of bounds, broken list)."""
