"""What :meth:`Store.state` answers.

The numbers are those of the memory format; ``lifecycle`` has the transitions.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ABSENT", "CREATED", "FREED", "LOST", "PENDING", "SEALED", "SPILLED"]

#: the store doesn't know the id
ABSENT: Final = 0
#: announced or awaited, not produced yet; owns no memory
PENDING: Final = 1
#: being written by its creator
CREATED: Final = 2
#: immutable and visible to all
SEALED: Final = 3
#: on disk, for want of room; whoever reads it brings it back
SPILLED: Final = 4
#: will never come: who promised it died or gave up
LOST: Final = 5
#: given up on purpose while somebody held references (``Store.free``)
FREED: Final = 7
