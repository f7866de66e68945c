"""Copies of other nodes' objects that no process here needs now. PURE.

The next task may want the same object, and to bring it here again costs more than to keep it. So such a copy
stays, as long as it is in nobody's way: until its home frees the object, nobody has wanted it for `SPARE_S`,
or there is more of them, or less free memory in the store, than a quarter of it. The oldest go first. A store
that is filled faster than somebody looks (`LOOK_S`) has them written to disk, as any others.
"""

from __future__ import annotations

#: How long nobody may have wanted a copy.
SPARE_S = 60.0
#: How often somebody should look, while there are copies.
LOOK_S = 0.5
#: Which part of the store they may take at most, and must be free besides.
SHARE = 0.25
#: How many there may be: what is known of each takes memory too.
COPIES_MAX = 10_000


class SpareCopies:
    """Which copies are kept, and since when.

    Args:
        store_bytes: the size of the store.
    """

    def __init__(self, store_bytes: int) -> None:
        self._share_bytes = int(store_bytes * SHARE)
        #: size and since when, oldest first
        self._copies: dict[bytes, tuple[int, float]] = {}
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._copies)

    def add(self, identity: bytes, size_bytes: int, now_s: float) -> None:
        """Nobody needs this copy any more."""
        self.remove(identity)
        self._copies[identity] = (size_bytes, now_s)
        self._held_bytes += size_bytes

    def remove(self, identity: bytes) -> None:
        """It is needed again, or gone; or was not among them."""
        size_bytes, _ = self._copies.pop(identity, (0, 0.0))
        self._held_bytes -= size_bytes

    def take_due(self, now_s: float, free_bytes: int) -> list[bytes]:
        """Remove and return those that should go now; `free_bytes` are what is free in the store."""
        due: list[bytes] = []
        for identity, (size_bytes, since_s) in self._copies.items():
            is_in_the_way = (
                self._held_bytes > self._share_bytes
                or free_bytes < self._share_bytes
                or len(self._copies) - len(due) > COPIES_MAX
            )
            if not is_in_the_way and now_s - since_s < SPARE_S:
                break
            due.append(identity)
            self._held_bytes -= size_bytes
            free_bytes += size_bytes
        for identity in due:
            del self._copies[identity]
        return due

    def take_all(self) -> list[bytes]:
        """Remove and return all: memory is short."""
        due = list(self._copies)
        self._copies.clear()
        self._held_bytes = 0
        return due
