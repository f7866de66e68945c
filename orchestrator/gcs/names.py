"""Names of actors, objects and placement groups, per namespace: who has one, and where to ask for it.

A *claim* is atomic: whoever comes second is told who has it. A name has one holder, an id (of the kind that
the name is of), and one *home*, the node that answers for it. What is found with it is opaque to the head.

A name is given back by its holder (`FreeName`, with the id), or by anybody by name; and it ends with its job
and with its home node, unless it is *detached*: then it stays until it is given back.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.gcs import records
from orchestrator.gcs.effects import Write
from orchestrator.gcs.requests import (
    Answer,
    ClaimName,
    Done,
    FindName,
    FreeName,
    ListNames,
    Name,
    Names,
    Refused,
)

TABLE = "names"
KINDS = ("actor", "object", "group")
BLOB_SIZE_MAX_BYTES = 1 << 20
#: Of a name, a namespace, an id.
TEXT_LENGTH_MAX = 1024

Key = tuple[str, str, str]


class NameTable:
    """Pure."""

    def __init__(self) -> None:
        self._names: dict[Key, Name] = {}
        #: (kind, id) to the names that it has.
        self._by_id: dict[tuple[str, str], dict[Key, None]] = {}

    def restore(self, rows: Iterable[bytes]) -> None:
        """Take over what a former head has stored."""
        for row in rows:
            self._enter(records.load(Name, row))

    # ------------------------------------------------------------ requests

    def claim(self, request: ClaimName) -> tuple[Answer, list[Write]]:
        """Take a name, or say who has it."""
        name = request.claim
        objection = _objection(name)
        if objection:
            return objection, []
        holder = self._names.get(_key(name))
        if holder is not None:
            text = (
                f"the {name.kind} name {name.name!r} in namespace {name.namespace!r} is taken by {holder.id}"
            )
            return Refused("taken", text), []
        self._enter(name)
        return Done(), [_write(name)]

    def find(self, request: FindName) -> Answer:
        """Return who has a name."""
        found = self._names.get((request.kind, request.namespace, request.name))
        if found is None:
            text = f"there is no {request.kind} {request.name!r} in namespace {request.namespace!r}"
            return Refused("unknown", text)
        return found

    def free(self, request: FreeName) -> tuple[Answer, list[Write]]:
        """Give a name back, or all names of an id."""
        if not request.name:
            keys = list(self._by_id.get((request.kind, request.id), ()))
        else:
            key = (request.kind, request.namespace, request.name)
            found = self._names.get(key)
            keys = [key] if found is not None and request.id in ("", found.id) else []
        return Done(len(keys)), [self._leave(key) for key in keys]

    def names(self, request: ListNames) -> Answer:
        """Return all names of a kind, without their blobs."""
        return Names(
            tuple(
                name._replace(blob=b"")
                for key, name in sorted(self._names.items())
                if name.kind == request.kind and request.namespace in (None, name.namespace)
            )
        )

    # ------------------------------------------------------------ events

    def home_died(self, index: int) -> list[Write]:
        """A node is dead: what it answered for is gone."""
        gone = [key for key, name in self._names.items() if name.home == index and not name.detached]
        return [self._leave(key) for key in gone]

    def job_ended(self, job: str) -> list[Write]:
        """A job is over: so is what belongs to it."""
        gone = [key for key, name in self._names.items() if name.job == job and not name.detached]
        return [self._leave(key) for key in gone]

    def _enter(self, name: Name) -> None:
        key = _key(name)
        self._names[key] = name
        self._by_id.setdefault((name.kind, name.id), {})[key] = None

    def _leave(self, key: Key) -> Write:
        name = self._names.pop(key)
        keys = self._by_id[name.kind, name.id]
        del keys[key]
        if not keys:
            del self._by_id[name.kind, name.id]
        return Write(TABLE, _row(key), None)

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for key, name in self._names.items():
            assert _key(name) == key, key
            assert key in self._by_id[name.kind, name.id], key
        assert sum(map(len, self._by_id.values())) == len(self._names)


def _objection(name: Name) -> Refused | None:
    if name.kind not in KINDS:
        return Refused("invalid", f"names are of the kinds {', '.join(KINDS)}; {name.kind[:40]!r} is none")
    if not name.name or not name.id:
        return Refused("invalid", "a name without a name or without an id cannot be claimed")
    if any(len(text) > TEXT_LENGTH_MAX for text in (name.name, name.namespace, name.id, name.job)):
        return Refused("too_large", f"names, namespaces and ids have at most {TEXT_LENGTH_MAX} characters")
    if len(name.blob) > BLOB_SIZE_MAX_BYTES:
        text = (
            f"what goes with the name {name.name!r} has {len(name.blob)} bytes; at most {BLOB_SIZE_MAX_BYTES}"
        )
        return Refused("too_large", text)
    return None


def _key(name: Name) -> Key:
    return (name.kind, name.namespace, name.name)


def _row(key: Key) -> str:
    # Lengths, because namespaces and names may contain anything.
    kind, namespace, name = key
    return f"{kind}/{len(namespace)}/{namespace}/{name}"


def _write(name: Name) -> Write:
    return Write(TABLE, _row(_key(name)), records.dump(name))
