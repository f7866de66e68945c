from typing import ClassVar, final

MESSAGE_BYTES_MAX: int

@final
class Sender:
    """The sending end of one channel. Get it from ``Endpoint.sender`` and keep it."""

    @property
    def address(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    @property
    def used_bytes(self) -> int:
        """Bytes published and not taken yet."""
    def send(self, payload: bytes) -> int:
        """Publish a message; never blocks. Its ticket, or 0 if the ring is full: the bell rings when there is room.

        PeerDiedError, MessageTooLargeError.
        """
    def revoke(self, ticket: int) -> bool:
        """True: the receiver has not seen the message and never will."""

@final
class Endpoint:
    """A client's end of all its channels, and its bell."""

    CONTROL: ClassVar[int]
    WORK: ClassVar[int]
    @property
    def address(self) -> int: ...
    def sender(self, address: int, lane: int = 0) -> Sender:
        """The sending end of the channel to a client, opened on first use. PeerDiedError, ObjectStoreFullError."""
    def close_sender(self, address: int) -> None:
        """Forget the channels to a client that is no longer needed."""
    def receive(self, lane: int = 0) -> tuple[int, bytes] | None:
        """(sender's address, payload) of the next message of that lane, or None. Never blocks."""
    def receive_many(self, lane: int = 0, limit: int = 256) -> list[tuple[int, bytes]]: ...
    def has_message(self, lane: int = 0) -> bool: ...
    def bell(self) -> int:
        """The number of this client's bell. Look at it before looking at what you wait for."""
    def wait(self, lane_mask: int, timeout_s: float | None, bell: int) -> bool:
        """Sleep until a message of a lane in the mask is there or the bell's number isn't ``bell`` any more.

        The mask's bits are ``1 << lane``. False when the time is over first.
        """
    def wait_background(self, timeout_s: float | None, bell: int) -> bool:
        """Like ``wait`` for the CONTROL lane, but woken only when no foreground thread and no event loop waits."""
    def ring(self) -> None:
        """Wake this client's own waiters, from another thread of the process."""
    def fileno(self) -> int:
        """A descriptor that becomes readable when an armed bell rings."""
    def look(self) -> bool:
        """Look for messages for a moment, before an event loop arms the bell and sleeps. True: there are some."""
    def arm(self) -> bool:
        """True: asleep, the next message or event makes ``fileno`` readable. False: messages, or news for
        ``Store.take_unneeded``, are there.
        """
    def drain(self) -> None:
        """Make ``fileno`` quiet again."""
