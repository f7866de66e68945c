"""Objects that a node of a cluster holds in nobody's name: those with names, and what detached actors need.

The node itself is an *agent* of its store: what it holds is no use of an object, so that it can tell when
nobody uses one any more (`plasma.Store.keep`). What is held for its own sake must count as a use, and is
therefore held by one more client of the store, an ordinary one. Of an object of another node this node is a
borrower, as for any process.

**Detached actors** are at home on the head's node, wherever their creator is: else they would end with its
node. The ids of their objects (the actor's own, its class, its constructor's call) say so from the start. The
creator stores them where it is, and *entrusts* them to the home: that expects them, holds them, brings them
over as it would any object of its own that lies elsewhere, and from then on needs nobody. What the objects
refer to is held as well, but stays where it is: it lives as long as its own home.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import Process, home_of
from orchestrator.node.store_errors import UNREADABLE, NotOwnerError

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember

#: References in what is entrusted, of one object.
CONTAINED_MAX = 2000


class Keepsakes:
    """See the module's text.

    Args:
        store: the ordinary client of the store; it is closed with this.
        member: this node as one of several.
    """

    def __init__(self, store: Any, member: ClusterMember) -> None:
        self._store = store
        self._member = member
        #: What is held for each actor.
        self._of_actor: dict[str, list[bytes]] = {}
        #: Objects that were promised by processes of other nodes: by whose stand-in.
        self._expected: dict[bytes, int] = {}

    def add_ref(self, object_id: bytes) -> bool:
        """Hold an object; False if it is gone."""
        self._member.objects.borrow(self._store.address, object_id)
        return bool(self._store.add_ref(object_id))

    def drop_ref(self, object_id: bytes) -> None:
        """Hold it once less; nothing if it is not held."""
        try:
            self._store.drop_ref(object_id)
        except NotOwnerError:
            pass  # it was given up meanwhile

    # ------------------------------------------------------------ of actors whose home is elsewhere

    def entrust(self, sender: int, actor: str, identity: bytes) -> None:
        """A process of this node has stored what an actor of another one needs."""
        member = self._member
        try:
            buffer = self._store.try_get(identity)
        except UNREADABLE:
            buffer = None
        if buffer is None:
            member.complain(f"object {identity.hex()} of actor {actor} is not here, and can't be entrusted")
            return
        contained = [hold.object_id.hex() for hold in self._store.holds() if hold.parent == identity]
        if len(contained) > CONTAINED_MAX:
            member.complain(
                f"object {identity.hex()} of actor {actor} has {len(contained)} references: only the first "
                f"{CONTAINED_MAX} are held"
            )
        news = {"op": "entrust", "actor": actor, "object": identity.hex(), "process": sender}
        member.tell(home_of(identity), news | {"contained": contained[:CONTAINED_MAX]})
        member.objects.perform(member.objects.directory.entrust(identity, len(memoryview(buffer))))

    # ------------------------------------------------------------ of actors whose home is here

    def on_entrust(self, node: int, message: dict[str, Any]) -> None:
        """Another node is about to say that it has an object that an actor of this one needs."""
        identity, actor = bytes.fromhex(message["object"]), str(message["actor"])
        if home_of(identity) != self._member.here:
            raise ValueError(f"object {identity.hex()} is not of this node")
        creator = self._member.stand_ins.of(Process(node, int(message["process"]))).address
        self._expect(actor, identity, creator)
        self._hold(actor, [bytes.fromhex(one) for one in message["contained"][:CONTAINED_MAX]])

    def expect(self, actor: str, constructor: str | None, creator: int) -> None:
        """An actor is created of which the constructor's call may still have to be stored."""
        if constructor:
            self._expect(actor, bytes.fromhex(constructor), creator)

    def _expect(self, actor: str, identity: bytes, creator: int) -> None:
        objects = self._member.objects
        if identity not in self._of_actor.get(actor, ()):
            objects.perform(objects.directory.keep(identity))
            self._hold(actor, [identity])
        self._expected[identity] = creator
        objects.want(identity)  # as a process that waits for it would

    def _hold(self, actor: str, identities: list[bytes]) -> None:
        held = self._of_actor.setdefault(actor, [])
        held += [identity for identity in identities if self.add_ref(identity)]

    def actor_gone(self, actor: str) -> None:
        """An actor is dead, or was never made: what was held for it may go."""
        for identity in self._of_actor.pop(actor, ()):
            self._expected.pop(identity, None)
            self.drop_ref(identity)

    def creator_gone(self, creator: int) -> None:
        """A process of another node is dead: what it had promised and never stored does not come."""
        objects = self._member.objects
        for identity in [one for one, promiser in self._expected.items() if promiser == creator]:
            del self._expected[identity]
            if not objects.directory.copies(identity)[0]:
                objects.abandon(identity)

    def close(self) -> None:
        """Let everything go."""
        self._store.close()
