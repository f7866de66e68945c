"""Objects that have a name: the node holds a reference to each, so they outlive whoever made them."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """The part of a store that this needs."""

    def add_ref(self, object_id: bytes) -> bool: ...

    def drop_ref(self, object_id: bytes) -> None: ...


class NamedObjects:
    """Names by namespace. They last until they are forgotten, or the session ends."""

    def __init__(self, store: Holder) -> None:
        self._store = store
        self._objects: dict[tuple[str, str], bytes] = {}

    def name(self, namespace: str, name: str, object_id: bytes) -> bool:
        """Hold an object under a name. False: the name is taken, or the object is gone."""
        if (namespace, name) in self._objects or not self._store.add_ref(object_id):
            return False
        self._objects[namespace, name] = object_id
        return True

    def find(self, namespace: str, name: str) -> bytes | None:
        """Return the object of that name."""
        return self._objects.get((namespace, name))

    def forget(self, namespace: str, name: str) -> bool:
        """Let an object go. False: there is none of that name."""
        object_id = self._objects.pop((namespace, name), None)
        if object_id is None:
            return False
        self._store.drop_ref(object_id)
        return True

    def forget_all(self, namespace: str) -> None:
        """Let all objects of a namespace go: nobody can ask for them any more."""
        for space, name in [place for place in self._objects if place[0] == namespace]:
            self.forget(space, name)

    def listing(self, namespace: str | None) -> list[dict[str, str]]:
        """Return the names of one namespace, or of all."""
        return [
            {"namespace": space, "name": name}
            for space, name in self._objects
            if namespace is None or space == namespace
        ]
