"""The nodes of the cluster: who belongs to it, under which index, and whether it lives.

======== ===================================== ======== ==================================================
state    event                                 next     what happens
======== ===================================== ======== ==================================================
(none)   register                              ALIVE    it gets the next index
ALIVE    nothing heard for `suspect_s`         SUSPECT  others give it nothing new
ALIVE    its session broke                     SUSPECT
SUSPECT  heartbeat, register                   ALIVE    under the same index
SUSPECT  nothing heard for `dead_s`, or no     DEAD     everything that was there is cleaned up
         session for `lost_s`
SUSPECT  without a session, and nobody has     DEAD     the same
         listened there for `refused_s`
ALIVE    leaving, declared dead, superseded    DEAD     the same
SUSPECT  leaving, declared dead, superseded    DEAD     the same
DEAD     register, heartbeat                   DEAD     it is told so, and must leave
======== ===================================== ======== ==================================================

An *index* is 16 bits and is never used again: ids of objects begin with it, and what a dead node left behind
must not become somebody else's. The head's first node has 1. *Draining* is no state but a wish beside it: a
node that drains lives, and may become suspect.

**Who declares whom dead.** Only the head does, and what it said is stored before it is said. So all nodes
have the same opinion, and a node that was cut off and comes back finds that it was buried: its actors may run
elsewhere by now.

**Who refuses has ended.** A node listens for links from before it registers until it ends, and all that runs
there ends with it. So if its machine refuses a connection there, no waiting can make it come back. A network
that fails does not refuse. (A firewall may; it keeps the links of other nodes out as well.) `doors` looks.

**The head's own absence.** If the head itself was away (restarted, stopped, swapped out), nobody's silence
counts for that time: a gap between two ticks is added to everybody's `due_s`, and after a restart all nodes
are SUSPECT and have `restart_s` to come back. When most of them are accounted for, the head can be reached
again; then silence counts as ever, and who has not come `dead_s` after the last that did is dead.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import records
from orchestrator.gcs.effects import Write
from orchestrator.gcs.messages import DrainNode, Heartbeat, NodeSpec, NodeView, Pending, Register

TABLE = "nodes"
META = "meta"
NEXT_INDEX_KEY = "next_node_index"
INDEX_MAX = (1 << 16) - 1
#: Dead nodes that are still known. One costs about 1 KiB; an older one that comes back is refused all the
#: same.
DEAD_MAX = 10_000
#: A tick that comes this much later than the one before means that the head was away.
TICK_GAP_S = 1.0
#: What one node may declare: bounds on what all others have to hold.
LABELS_MAX = 256
PENDING_MAX = 64
STATUS_SIZE_MAX = 16_384


class NodeState(enum.Enum):
    """Whether a node lives, in the head's opinion."""

    ALIVE = "ALIVE"
    #: Silent, or without a session: given nothing new.
    SUSPECT = "SUSPECT"
    #: For good.
    DEAD = "DEAD"


class HealthPolicy(NamedTuple):
    """How much silence means what, in seconds. Nodes send a heartbeat each half second."""

    suspect_s: float = 2.0
    dead_s: float = 10.0
    #: Without a session: its process has ended, or the connection was broken, and then it is back at once.
    lost_s: float = 5.0
    #: Without a session, and for so long nobody has listened where it did. More than one look, and more than
    #: it takes the kernel to end what ran below the node's process.
    refused_s: float = 1.0
    #: After a restart of the head, which thousands of nodes may have to find again.
    restart_s: float = 30.0


class StoredNode(NamedTuple):
    """What outlives the head."""

    node: int
    spec: NodeSpec
    state: str
    drain: DrainNode | None = None
    cause: str = ""


class Died(NamedTuple):
    """What the tables have to react to."""

    node: int
    cause: str


class NodeRecord:
    """What the head knows of one node."""

    __slots__ = (
        "available", "cause", "drain", "due_s", "index", "pending", "refused_s", "session", "spec", "state",
        "status",
    )  # fmt: skip

    def __init__(self, index: int, spec: NodeSpec, due_s: float) -> None:
        self.index = index
        self.spec = spec
        self.state = NodeState.ALIVE
        #: Whether it is to leave.
        self.drain: DrainNode | None = None
        self.cause = ""
        self.available: ResourceSet = spec.total
        self.pending: tuple[Pending, ...] = ()
        self.status = ""
        #: Its session; None if it has none. None whenever it is DEAD.
        self.session: int | None = None
        #: When its silence has its next consequence.
        self.due_s = due_s
        #: When it was first found that nobody listens there. None once it was heard of again.
        self.refused_s: float | None = None

    @property
    def is_member(self) -> bool:
        """Tell whether it belongs to the cluster."""
        return self.state is not NodeState.DEAD

    def view(self) -> NodeView:
        """Return what others see."""
        spec = self.spec
        cause = self.cause or (self.drain.reason if self.drain is not None else "")
        return NodeView(
            self.index, spec.node_id, spec.hostname, spec.services, spec.total, self.available, spec.labels,
            spec.is_head, self.state.value, self.drain is not None, cause, self.pending, self.status,
        )  # fmt: skip


class NodeTable:
    """Pure. Methods return the writes; `changed` collects whom others have to hear of."""

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self._records: dict[int, NodeRecord] = {}
        #: Ids of nodes to indices; of the dead ones, too.
        self._by_id: dict[str, int] = {}
        self._dead: dict[int, None] = {}
        self._next_index = 1
        self._ticked_s: float | None = None
        #: Nodes that the former head knew and that are not accounted for; how many they were; and when the
        #: last of the others came back. All that are awaited are SUSPECT, and have no session.
        self._awaited: set[int] = set()
        self._awaited_count = 0
        self._returned_s = 0.0
        #: Nodes whose view has changed since somebody took this.
        self.changed: dict[int, None] = {}

    # ------------------------------------------------------------ reading

    def get(self, index: int) -> NodeRecord | None:
        """Return a node that is known, dead or not."""
        return self._records.get(index)

    def by_id(self, node_id: str) -> NodeRecord | None:
        """Return a node by its id."""
        return self._records.get(self._by_id.get(node_id, 0))

    def is_member(self, index: int) -> bool:
        """Tell whether a node belongs to the cluster."""
        record = self._records.get(index)
        return record is not None and record.is_member

    def members(self) -> list[NodeRecord]:
        """Return all that are not dead, by index."""
        return [record for record in self._records.values() if record.is_member]

    def absent(self) -> list[NodeRecord]:
        """Return the members that have no session."""
        return [record for record in self._records.values() if record.is_member and record.session is None]

    def all(self) -> Iterable[NodeRecord]:
        """Return all that are known."""
        return self._records.values()

    @property
    def head_index(self) -> int:
        """Return the index of the head's node; 0 if there is none now."""
        return next((r.index for r in self._records.values() if r.is_member and r.spec.is_head), 0)

    # ------------------------------------------------------------ events

    def restore(self, rows: Iterable[bytes], next_index: int, now_s: float) -> None:
        """Take over what a former head has stored."""
        for stored in sorted((records.load(StoredNode, row) for row in rows), key=lambda one: one.node):
            record = NodeRecord(stored.node, stored.spec, now_s + self._policy.restart_s)
            record.drain, record.cause = stored.drain, stored.cause
            record.state = NodeState(stored.state)
            if record.state is NodeState.DEAD:
                self._dead[record.index] = None
            else:
                record.state = NodeState.SUSPECT
                record.cause = "the head was restarted, and has not heard from it yet"
                self._awaited.add(record.index)
            self._records[record.index] = record
            self._by_id[record.spec.node_id] = record.index
            self._next_index = max(self._next_index, record.index + 1)
        self._next_index = max(self._next_index, next_index)
        self._awaited_count, self._returned_s = len(self._awaited), now_s

    def register(
        self, session: int, message: Register, now_s: float
    ) -> tuple[NodeRecord | str, list[Write], list[Died]]:
        """A node says who it is; return its record or why it must leave, the writes, and who died of it."""
        spec = message.spec
        objection = spec_objection(spec)
        if objection:
            return objection, [], []
        record = self.by_id(spec.node_id)
        if record is None and message.node:
            return "the head no longer knows it: it was declared dead long ago", [], []
        if record is not None:
            if not record.is_member:
                return f"it was declared dead: {record.cause}", [], []
            if message.node not in (0, record.index):
                return f"it calls itself node {message.node}, and was registered as {record.index}", [], []
            record.session = session
            self._alive(record, now_s)
            if record.spec == spec:
                return record, [], []
            record.spec = spec
            self.changed[record.index] = None
            return record, [self._write(record)], []
        if self._next_index > INDEX_MAX:
            return f"the cluster has used up its {INDEX_MAX} node indices: start a new one", [], []
        writes: list[Write] = []
        died: list[Died] = []
        if spec.is_head and self.head_index:
            more, gone = self.bury(self.head_index, "the head was started anew on this or another machine")
            writes += more
            died += gone
        index = self._take_index(spec.is_head)
        record = NodeRecord(index, spec, now_s + self._policy.suspect_s)
        record.session = session
        self._records[index] = record
        self._by_id[spec.node_id] = index
        self.changed[index] = None
        next_index = Write(META, NEXT_INDEX_KEY, str(self._next_index).encode())
        return record, [*writes, next_index, self._write(record)], died

    def _take_index(self, is_head: bool) -> int:
        # 1 is kept for the first node of the head, whoever comes first.
        index = self._next_index
        if index == 1 and not is_head:
            index = 2
        self._next_index = index + 1
        return index

    def heartbeat(self, record: NodeRecord, message: Heartbeat, now_s: float) -> None:
        """A member gives a sign of life."""
        assert record.is_member
        self._alive(record, now_s)
        pending, status = message.pending[:PENDING_MAX], message.status[:STATUS_SIZE_MAX]
        if (message.available, pending, status) != (record.available, record.pending, record.status):
            record.available, record.pending, record.status = message.available, pending, status
            self.changed[record.index] = None

    def _alive(self, record: NodeRecord, now_s: float) -> None:
        record.due_s, record.refused_s = now_s + self._policy.suspect_s, None
        if record.index in self._awaited:
            self._awaited.discard(record.index)
            self._returned_s = now_s
        if record.state is NodeState.SUSPECT:
            record.state, record.cause = NodeState.ALIVE, ""
            self.changed[record.index] = None

    def session_lost(self, record: NodeRecord, now_s: float) -> None:
        """A member's session broke; the session is forgotten."""
        record.session = None
        if record.is_member:
            self._suspect(record, "its connection to the head broke", now_s + self._policy.lost_s)

    def _suspect(self, record: NodeRecord, cause: str, due_s: float) -> None:
        record.state, record.cause, record.due_s = NodeState.SUSPECT, cause, due_s
        self.changed[record.index] = None

    def tick(self, now_s: float) -> tuple[list[Write], list[Died]]:
        """Look at the clock."""
        before_s, self._ticked_s = self._ticked_s, now_s
        if before_s is not None and now_s - before_s > TICK_GAP_S:
            self._returned_s += now_s - before_s
            for record in self._records.values():
                record.due_s += now_s - before_s
        if 2 * len(self._awaited) < self._awaited_count and now_s >= self._returned_s + self._policy.dead_s:
            for index in self._awaited:
                self._records[index].due_s = now_s
        writes: list[Write] = []
        died: list[Died] = []
        for record in [r for r in self._records.values() if r.is_member and r.due_s <= now_s]:
            if record.state is NodeState.ALIVE:
                wait_s = self._policy.dead_s - self._policy.suspect_s
                self._suspect(
                    record, f"nothing was heard from it for {self._policy.suspect_s:g} s", now_s + wait_s
                )
            else:
                more, gone = self.bury(record.index, f"it did not come back ({record.cause})")
                writes += more
                died += gone
        return writes, died

    def nobody_listens(self, index: int, now_s: float) -> tuple[list[Write], list[Died]]:
        """The machine of a node refuses connections to where the node listens."""
        record = self._records.get(index)
        if record is None or not record.is_member or record.session is not None:
            return [], []
        if record.refused_s is None:
            record.refused_s = now_s
        if now_s - record.refused_s < self._policy.refused_s:
            return [], []
        return self.bury(index, f"its process has ended: nobody listens there any more ({record.cause})")

    def bury(self, index: int, cause: str) -> tuple[list[Write], list[Died]]:
        """A node is dead from now on."""
        record = self._records.get(index)
        if record is None or not record.is_member:
            return [], []
        record.state, record.cause, record.session = NodeState.DEAD, cause, None
        record.available, record.pending = ResourceSet(), ()
        self.changed[index] = None
        self._dead[index] = None
        self._awaited.discard(index)
        writes = [self._write(record)]
        if len(self._dead) > DEAD_MAX:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            gone = self._records.pop(oldest)
            del self._by_id[gone.spec.node_id]
            self.changed.pop(oldest, None)
            writes.append(Write(TABLE, str(oldest), None))
        return writes, [Died(index, cause)]

    def drain(self, index: int, wish: DrainNode) -> list[Write] | None:
        """A node is to take nothing new; None if it is not of the cluster."""
        record = self._records.get(index)
        if record is None or not record.is_member:
            return None
        record.drain = wish
        self.changed[index] = None
        return [self._write(record)]

    def _write(self, record: NodeRecord) -> Write:
        stored = StoredNode(record.index, record.spec, record.state.value, record.drain, record.cause)
        return Write(TABLE, str(record.index), records.dump(stored))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for index, record in self._records.items():
            assert record.index == index < self._next_index, index
            assert self._by_id[record.spec.node_id] == index, index
            assert (record.state is NodeState.DEAD) == (index in self._dead), index
            assert record.session is None or record.is_member, index
            assert record.refused_s is None or record.session is None, index
        for index in self._awaited:
            record = self._records[index]
            assert record.state is NodeState.SUSPECT and record.session is None, index
        assert len(self._awaited) <= self._awaited_count
        assert len(self._by_id) == len(self._records)
        assert len(self._dead) <= DEAD_MAX
        assert sum(record.spec.is_head for record in self.members()) <= 1
        sessions = [record.session for record in self.members() if record.session is not None]
        assert len(sessions) == len(set(sessions))


def spec_objection(spec: NodeSpec) -> str:
    """Return what is wrong with what a node says of itself; "" if nothing is."""
    if len(spec.node_id) != 16 or not set(spec.node_id) <= set("0123456789abcdef"):
        return f"its id {spec.node_id[:40]!r} is not 16 hexadecimal digits"
    if len(spec.labels) > LABELS_MAX or len(list(spec.total)) > LABELS_MAX or len(spec.services) > LABELS_MAX:
        return f"it declares more than {LABELS_MAX} labels, resources or services"
    texts = (
        spec.hostname,
        *spec.services,
        *spec.services.values(),
        *spec.labels,
        *spec.labels.values(),
        *spec.total,
    )
    if any(len(text) > 1024 for text in texts):
        return "it declares a label, resource or service of more than 1024 characters"
    if any(spec.total[name] < 0 for name in spec.total):
        return "it declares a negative resource"
    return ""
