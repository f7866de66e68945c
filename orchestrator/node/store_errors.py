"""Errors of the store that the node process has an answer to.

It attaches to the store but never serializes: `orchestrator.objects.plasma_adapter`, the door for the others,
would cost it numpy.
"""

from __future__ import annotations

from typing import Final

from plasma.errors import (
    NotOwnerError,
    ObjectExistsError,
    ObjectLostError,
    ObjectStoreFullError,
    PeerDiedError,
    TableFullError,
)

__all__ = [
    "UNREADABLE", "NotOwnerError", "ObjectExistsError", "ObjectLostError", "ObjectStoreFullError",
    "PeerDiedError", "TableFullError",
]  # fmt: skip

#: What `Store.try_get` raises where there is an object that can't be had now: it is lost, the ledger has no
#: room for one more pin, or the disk on which it lies can't be read (which may pass).
UNREADABLE: Final = (ObjectLostError, TableFullError, OSError)
