"""Detached actors: what it takes to bring one back when its home node is gone.

The home node runs the actor's state machine (`orchestrator/scheduling/actor_table.py`); here lies a copy of
what that needs to begin anew elsewhere: the constructor's call, the options, the restarts left.

======== ============================== ======== =============================================================
state    event                          next     what happens
======== ============================== ======== =============================================================
(none)   keep                           AT_HOME  stored
AT_HOME  keep (a higher revision)       AT_HOME  stored
AT_HOME  its home died                  ORPHAN   the head's node is told to adopt it, now or when there is one
ORPHAN   the head's node has adopted it AT_HOME  under the new home; its names follow
any      drop                           (none)
======== ============================== ======== =============================================================

News from a home that is no longer one (it was declared dead, and does not know it yet) never arrives: such a
node's requests are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.gcs import records
from orchestrator.gcs.effects import Effect, Tell, Write
from orchestrator.gcs.messages import AdoptActor, DetachedActor
from orchestrator.gcs.requests import ActorAdopted, Actors, Answer, Done, Refused

TABLE = "actors"
CONSTRUCTOR_SIZE_MAX_BYTES = 8 << 20
OPTIONS_LENGTH_MAX = 1 << 20
ACTORS_MAX = 10_000


class DetachedActorTable:
    """Pure. An actor is an orphan if its record's home is 0."""

    def __init__(self) -> None:
        self._actors: dict[str, DetachedActor] = {}
        #: Who was told to adopt which orphans.
        self._asked: dict[str, int] = {}

    def restore(self, rows: Iterable[bytes]) -> None:
        """Take over what a former head has stored."""
        for row in rows:
            record = records.load(DetachedActor, row)
            self._actors[record.actor] = record

    def keep(self, node: int, record: DetachedActor) -> tuple[Answer, list[Write]]:
        """Store an actor, or newer news of it. The asking node is its home."""
        known = self._actors.get(record.actor)
        if known is not None and (known.home != node or known.revision >= record.revision):
            return Done(0), []
        if not record.actor or len(record.options) > OPTIONS_LENGTH_MAX:
            return Refused(
                "invalid", f"a detached actor has an id, and options of at most {OPTIONS_LENGTH_MAX} bytes"
            ), []
        if len(record.constructor) > CONSTRUCTOR_SIZE_MAX_BYTES:
            text = (
                f"the arguments of detached actor {record.name or record.actor} have "
                f"{len(record.constructor)} bytes; "
                f"at most {CONSTRUCTOR_SIZE_MAX_BYTES}, so that it can be brought back on another node: "
                "pass large "
                "values as object references"
            )
            return Refused("too_large", text), []
        if known is None and len(self._actors) >= ACTORS_MAX:
            return Refused("too_large", f"the cluster has {ACTORS_MAX} detached actors already"), []
        return Done(1), [self._set(record._replace(home=node))]

    def adopted(self, node: int, request: ActorAdopted) -> tuple[Answer, list[Write]]:
        """A node has become the home of an orphan."""
        record = self._actors.get(request.actor)
        if record is None or record.home or self._asked.get(request.actor) != node:
            return Done(0), []
        del self._asked[request.actor]
        return Done(1), [self._set(record._replace(home=node))]

    def drop(self, actor: str) -> tuple[Answer, list[Write]]:
        """An actor is dead for good."""
        if self._actors.pop(actor, None) is None:
            return Done(0), []
        self._asked.pop(actor, None)
        return Done(1), [Write(TABLE, actor, None)]

    def actors(self) -> Answer:
        """Return all, without their constructors."""
        return Actors(tuple(record._replace(constructor=b"") for record in self._actors.values()))

    def node_died(self, node: int, head: int) -> list[Effect]:
        """A node is dead: what was at home there goes to the head's node (0: there is none)."""
        writes: list[Effect] = []
        for record in [one for one in self._actors.values() if one.home == node]:
            writes.append(self._set(record._replace(home=0, revision=record.revision + 1)))
        self._asked = {actor: index for actor, index in self._asked.items() if index != node}
        return [*writes, *self._ask(head)]

    def resume(self, node: int, head: int) -> list[Effect]:
        """A node registers; if it is the head's, it hears of all orphans."""
        if node != head:
            return []
        self._asked.clear()
        return self._ask(head)

    def _ask(self, head: int) -> list[Effect]:
        if not head:
            return []
        orphans = [one for one in self._actors.values() if not one.home and one.actor not in self._asked]
        self._asked |= {one.actor: head for one in orphans}
        return [Tell(head, AdoptActor(one)) for one in orphans]

    def _set(self, record: DetachedActor) -> Write:
        self._actors[record.actor] = record
        return Write(TABLE, record.actor, records.dump(record))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for actor, record in self._actors.items():
            assert record.actor == actor, actor
            assert not record.home or actor not in self._asked, actor
        assert set(self._asked) <= set(self._actors)
