"""A stream of frames that survives its connections. PURE.

A link carries numbered frames in one direction, over one connection after the other; acknowledgements come
back on the same connection. The first frame of a link is number 1.

    Outgoing   keeps what was not acknowledged. When a connection is made the receiver says how many
               frames it has (`resume`), and what it lacks is sent again.
    Incoming   counts. What was sent again and is here already cannot occur, as the count is the receiver's
    own.

A link belongs to one *incarnation* of each of its two nodes. A node that begins anew has lost the count, and
is another node; so a receiver that has fewer frames than were acknowledged is an error, not a wish.
"""

from __future__ import annotations

from collections import deque


class LinkLost(Exception):
    """The two ends do not agree about what has arrived; the link can't go on."""


class Outgoing:
    """The sending half."""

    def __init__(self) -> None:
        #: frames that were not acknowledged, the oldest first; the first has number `acknowledged + 1`
        self._kept: deque[bytes] = deque()
        self.acknowledged = 0
        #: how many of `_kept` the connection of the moment has been given
        self._given = 0
        #: bytes in `_kept`
        self.kept_bytes = 0

    def append(self, frame: bytes) -> None:
        """Take a frame."""
        self._kept.append(frame)
        self.kept_bytes += len(frame)

    @property
    def waits(self) -> bool:
        """Whether there is something to give to the connection."""
        return self._given < len(self._kept)

    def take(self, bytes_max: int) -> list[bytes]:
        """Return the frames to be sent next, in order, not much more than `bytes_max` of them."""
        kept = self._kept
        if self._given == 0:
            # The common case, without a walk through what waits for acknowledgement.
            frames, size = [], 0
            for frame in kept:
                frames.append(frame)
                size += len(frame)
                if size >= bytes_max:
                    break
            self._given = len(frames)
            return frames
        frames, size = [], 0
        while self._given < len(kept) and size < bytes_max:
            frame = kept[self._given]
            frames.append(frame)
            size += len(frame)
            self._given += 1
        return frames

    def acknowledge(self, count: int) -> None:
        """So many frames have arrived in all.

        Raises:
            LinkLost: more than were sent, or fewer than before.
        """
        gone = count - self.acknowledged
        if not 0 <= gone <= self._given:
            raise LinkLost(
                f"{count} frames acknowledged, of {self.acknowledged + self._given} that were sent"
            )
        for _ in range(gone):
            self.kept_bytes -= len(self._kept.popleft())
        self._given -= gone
        self.acknowledged = count

    def resume(self, arrived: int) -> None:
        """A new connection: the receiver has `arrived` frames.

        Raises:
            LinkLost: it has lost some, or some that were never sent.
        """
        self._given = len(self._kept)
        try:
            self.acknowledge(arrived)
        finally:
            self._given = 0

    def validate(self) -> None:
        """Check every invariant."""
        assert 0 <= self._given <= len(self._kept)
        assert self.kept_bytes == sum(map(len, self._kept))


#: An acknowledgement is due after so many bytes, or when the stream pauses.
ACK_BYTES = 256 * 1024


class Incoming:
    """The receiving half."""

    def __init__(self) -> None:
        #: frames that have arrived in all
        self.arrived = 0
        self._unacknowledged_bytes = 0
        self._acknowledged = 0

    def frame(self, size_bytes: int) -> None:
        """A numbered frame has arrived and was handled."""
        self.arrived += 1
        self._unacknowledged_bytes += size_bytes

    @property
    def is_ack_owed(self) -> bool:
        """Whether something has arrived that was not acknowledged."""
        return self.arrived != self._acknowledged

    def ack_due(self, *, pausing: bool) -> int | None:
        """Return the count to acknowledge now, if it is time."""
        if self.arrived == self._acknowledged:
            return None
        if not pausing and self._unacknowledged_bytes < ACK_BYTES:
            return None
        self._acknowledged = self.arrived
        self._unacknowledged_bytes = 0
        return self.arrived
