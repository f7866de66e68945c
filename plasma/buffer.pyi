from typing import final

from typing_extensions import Buffer as AnyBuffer

@final
class Buffer:
    """A read-only view of a sealed object's bytes, straight from shared memory.

    The object stays where it is until this and every view made of it (memoryview, numpy array, ...) is gone, even
    if it is deleted meanwhile.
    """

    @property
    def object_id(self) -> bytes: ...
    def release(self) -> None:
        """Let go of the object now. BufferError while a view of it is alive."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class PrivatePages:
    """A writable view of a sealed object, copy-on-write."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def writable(buffer: AnyBuffer) -> PrivatePages | bytearray:
    """A view of the same bytes that may be written to; nobody else sees the changes. Of a large Buffer nothing is copied."""

@final
class Allocation:
    """Writable memory of an object that is being created: fill it, then ``seal()`` it. Dropped before: aborted."""

    @property
    def object_id(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sealed(self) -> bool: ...
    @property
    def fresh(self) -> bool:
        """Nobody has used this memory since the store was made: touching it takes longer than copying into it."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def populate(self, start: int, size: int) -> None:
        """Have the kernel provide the pages of a stretch now, ahead of the thread that will write to them."""
    def seal(self) -> None:
        """Make the object immutable and visible to all. Raises ObjectSealedError the second time."""
    def abort(self) -> None:
        """Give the memory back. BufferError while views of it exist, ObjectSealedError after a seal."""
