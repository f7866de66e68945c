"""Objects that a node of a cluster holds in nobody's name: those with names, and what detached actors need.

The node itself is an *agent* of its store: what it holds is no use of an object, so that it can tell when
nobody uses one any more (`plasma.Store.keep`). What is held for its own sake must count as a use, and is
therefore held by one more client of the store, an ordinary one. Of an object of another node this node is a
borrower, as for any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.node.object_plane import ObjectPlane


class Keepsakes:
    """See the module's text.

    Args:
        store: the ordinary client of the store; it is closed with this.
        objects: this node's part in the objects of the cluster.
    """

    def __init__(self, store: Any, objects: ObjectPlane) -> None:
        self._store = store
        self._objects = objects

    @property
    def address(self) -> int:
        """Address of the client that holds."""
        address: int = self._store.address
        return address

    def add_ref(self, object_id: bytes) -> bool:
        """Hold an object; False if it is gone."""
        self._objects.borrow(self._store.address, object_id)
        return bool(self._store.add_ref(object_id))

    def drop_ref(self, object_id: bytes) -> None:
        """Hold it once less; nothing if it is not held."""
        try:
            self._store.drop_ref(object_id)
        except Exception:
            pass  # plasma.NotOwnerError: it was given up meanwhile

    def close(self) -> None:
        """Let everything go."""
        self._store.close()
