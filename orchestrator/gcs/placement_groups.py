"""Placement groups over nodes: all bundles of a group are reserved, or none is.

============ ============================== ============ ==================================================
state        event                          next         what happens
============ ============================== ============ ==================================================
(none)       create                         PENDING      nodes are chosen, now or when there is room
PENDING      all parts prepared             CREATED      *the decision*: every part is told to commit
PENDING      a part refused, was suspected  PENDING      the attempt is rolled back; another one follows
             or died
PENDING      no nodes could ever, for       INFEASIBLE   whoever watches hears why
             `refuse_after_s`
CREATED      a node died                    RESCHEDULING the bundles that were there are placed anew
RESCHEDULING all new parts prepared         CREATED      or still RESCHEDULING, if another node died
                                                         meanwhile
any living   remove, its job ended          REMOVED      every part is released
============ ============================== ============ ==================================================

**Two phases.** An *attempt* covers the bundles that lie nowhere; what it puts on one node is a *part*:

    ASKED --prepared--> PREPARED --(the last of the attempt)--> COMMITTING --committed--> COMMITTED
      any of these --roll back, removal--> RELEASING --released--> (gone)

and the parts of a dead node are gone, whatever they were.

A node reserves when it prepares, but nothing may run there before the commit: a group that is rolled back was
never used. The decision is stored before a node hears of it, so it stands whatever dies; there is one place
where it is made (`_decide`). The nodes are the truth about room: what is chosen here from heartbeats may be
stale, and is then refused.

**Nothing is lost.** Each part says in which state its node last was told to be. A node that registers is told
again what it has not confirmed (`resume`), and so must accept repetitions; it remembers which attempts it has
released, and refuses those for good.

Who waits is not starved: groups are tried in the order in which they came, each time the cluster has changed
and at least each `RETRY_S`. Tasks that come without end may leave no room on any node at any moment; so for a
group that has waited for `PATIENCE_S` nodes are chosen as if no tasks and actors were there, and those make
room as for anybody who waits, or refuse after a while and are avoided the next time. One group at a time does
so: two that each hold what the other needs would wait in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import records
from orchestrator.gcs.effects import Effect, Tell, Write
from orchestrator.gcs.group_records import (
    GONE,
    HOLDING,
    UNDECIDED,
    GroupRecord,
    GroupState,
    Part,
    PartState,
    StoredGroup,
    StoredPart,
    changed,
    command,
    describe,
    is_open,
    objection_to,
)
from orchestrator.gcs.messages import CommitBundles, GroupChanged, NodeView
from orchestrator.gcs.requests import Answer, Done, Group, Groups, GroupSpec, Refused

TABLE = "groups"
GROUPS_MAX = 100_000
WATCHERS_MAX = 10_000
#: A refused group is tried again after this, at the latest.
RETRY_S = 1.0
#: A group that has waited for room for so long has nodes make some.
PATIENCE_S = 2.0
#: An attempt that is not decided by then is rolled back.
ATTEMPT_TIMEOUT_S = 10.0
#: Groups for which nodes are chosen in one tick: a choice may take a millisecond.
CHOICES_PER_TICK_MAX = 20
#: Groups that are gone and still known, so that a late watcher hears what happened.
GONE_MAX = 10_000


class NoRoom(NamedTuple):
    """Why no nodes were chosen, and whether those that are there could not even do it if they were empty."""

    cause: str
    never: bool = False


class Wish(NamedTuple):
    """What nodes are to be chosen for."""

    spec: GroupSpec
    #: Indices of the bundles in question.
    bundles: tuple[int, ...]
    #: Nodes that hold other bundles of the group.
    occupied: frozenset[int]


#: (wish, nodes that may be used, what is promised there and not in their heartbeats yet) → a node for each
#: bundle.
Choose = Callable[[Wish, Sequence[NodeView], Mapping[int, ResourceSet]], "list[int] | NoRoom"]


class GroupTable:
    """Pure.

    Args:
        choose: chooses nodes.
        refuse_after_s: for how long a group may want what no nodes have; None: for ever, as nodes may be
        added.
    """

    def __init__(self, choose: Choose, *, refuse_after_s: float | None = 60.0) -> None:
        self._choose = choose
        self._refuse_after_s = refuse_after_s
        self._records: dict[str, GroupRecord] = {}
        self._numbers_used = 0
        #: Groups that want nodes, in the order in which they came.
        self._wanting: dict[str, None] = {}
        #: Nodes to the groups that have parts there.
        self._on_node: dict[int, dict[str, None]] = {}
        self._gone: dict[str, GroupChanged] = {}
        #: The group for which nodes make room.
        self._insisting = ""
        #: Groups that have ended since somebody took this: their names are free.
        self._ended: list[str] = []

    def restore(self, rows: Iterable[bytes], now_s: float) -> None:
        """Take over what a former head has stored."""
        for stored in sorted((records.load(StoredGroup, row) for row in rows), key=lambda one: one.number):
            record = GroupRecord(stored.spec, stored.number)
            record.state, record.cause = GroupState(stored.state), stored.cause
            record.attempt, record.deadline_s = stored.attempt, now_s + ATTEMPT_TIMEOUT_S
            record.watchers = dict.fromkeys(stored.watchers)
            self._numbers_used = max(self._numbers_used, stored.number)
            self._records[stored.spec.group] = record
            for kept in stored.parts:
                part = self._add_part(record, kept.node, kept.attempt, kept.bundles)
                part.state, part.reason = PartState(kept.state), kept.reason
            self._want(record)

    # ------------------------------------------------------------ requests

    def create(self, node: int, spec: GroupSpec) -> tuple[Answer, list[Effect]]:
        """A node wants a group. Nodes for it are chosen in the next `tick`."""
        objection = objection_to(spec)
        if objection:
            return Refused("invalid", objection), []
        if spec.group in self._records:
            return Refused("taken", f"there is a placement group {spec.group} already"), []
        if len(self._records) >= GROUPS_MAX:
            return Refused("too_large", f"the cluster has {GROUPS_MAX} placement groups already"), []
        self._numbers_used += 1
        record = self._records[spec.group] = GroupRecord(spec, self._numbers_used)
        record.watchers[node] = None
        self._want(record)
        return Done(), [self._write(record)]

    def remove(self, group: str, reason: str) -> tuple[Answer, list[Effect]]:
        """Somebody wants a group no more."""
        record = self._records.get(group)
        if record is None or record.state in GONE:
            return Done(0), []
        return Done(1), self._end(record, GroupState.REMOVED, reason)

    def job_ended(self, job: str) -> list[Effect]:
        """A job is over: so are its groups, unless they are detached."""
        out: list[Effect] = []
        for record in list(self._records.values()):
            if record.spec.job == job and not record.spec.detached and record.state not in GONE:
                out += self._end(record, GroupState.REMOVED, f"its job {job} ended")
        return out

    def watch(self, node: int, group: str) -> tuple[Answer, list[Effect]]:
        """A node wants to hear what becomes of a group."""
        record = self._records.get(group)
        if record is None:
            gone = self._gone.get(group, GroupChanged(group, "REMOVED", "the cluster does not know it"))
            spec = GroupSpec(group, "", "", "PACK", ())
            return Groups((Group(spec, gone.state, gone.cause),)), []
        writes: list[Effect] = []
        if node not in record.watchers and record.state not in GONE:
            if len(record.watchers) >= WATCHERS_MAX:
                return Refused("too_large", f"group {group} has {WATCHERS_MAX} watchers already"), []
            record.watchers[node] = None
            writes.append(self._write(record))
        return Groups((describe(record),)), writes

    def groups(self) -> Answer:
        """Return all that are known, the oldest first."""
        return Groups(tuple(describe(record) for record in self._records.values()))

    # ------------------------------------------------------------ what nodes say

    def prepared(self, node: int, group: str, attempt: int) -> tuple[Answer, list[Effect]]:
        """A node has reserved its part."""
        record, part = self._find(node, group, attempt)
        if record is None or part is None or part.state is not PartState.ASKED:
            return Done(0), []
        part.state = PartState.PREPARED
        decided = self._decide(record)
        return Done(1), [*decided, self._write(record)]

    def _decide(self, record: GroupRecord) -> list[Effect]:
        """Commit the attempt if all its parts are prepared: the only place where that is decided."""
        parts = [part for part in record.parts.values() if part.state in UNDECIDED]
        if any(part.state is PartState.ASKED for part in parts):
            return []
        for part in parts:
            part.state = PartState.COMMITTING
        tells = [Tell(part.node, CommitBundles(record.spec.group, part.attempt)) for part in parts]
        if 0 in record.holders():
            # While this repair was under way, another node of the group died: the next attempt is about that.
            assert record.state is GroupState.RESCHEDULING, record.spec.group
        else:
            record.state, record.cause = GroupState.CREATED, ""
            record.waiting_since_s = None
            record.avoided.clear()
            self._wanting.pop(record.spec.group, None)
        return [*tells, *self._news(record)]

    def refused(self, node: int, group: str, attempt: int, cause: str) -> tuple[Answer, list[Effect]]:
        """A node has no room after all."""
        record, part = self._find(node, group, attempt)
        if record is None or part is None or part.state not in UNDECIDED:
            return Done(0), []
        record.avoided.add(node)
        # Its part is released like the others: the question may have reached it twice, and have been answered
        # with yes the second time.
        return Done(1), self._roll_back(record, f"node {node} refused: {cause[:500]}")

    def committed(self, node: int, group: str, attempt: int) -> tuple[Answer, list[Effect]]:
        """A node lets the bundles of its part be used."""
        record, part = self._find(node, group, attempt)
        if record is None or part is None or part.state is not PartState.COMMITTING:
            return Done(0), []
        part.state = PartState.COMMITTED
        return Done(1), [self._write(record)]

    def released(self, node: int, group: str, attempt: int) -> tuple[Answer, list[Effect]]:
        """A node has freed its part."""
        record, part = self._find(node, group, attempt)
        if record is None or part is None or part.state is not PartState.RELEASING:
            return Done(0), []
        self._drop_part(record, part)
        return Done(1), [self._write(record)]

    # ------------------------------------------------------------ nodes and time

    def node_died(self, node: int) -> list[Effect]:
        """A node is dead, and all that was reserved there."""
        out: list[Effect] = []
        for group in list(self._on_node.get(node, ())):
            record = self._records[group]
            undecided = False
            held = False
            for part in [part for part in record.parts.values() if part.node == node]:
                undecided = undecided or part.state in UNDECIDED
                held = held or part.state in HOLDING
                self._drop_part(record, part)
            cause = f"node {node} died"
            if undecided:
                out += self._roll_back(record, cause)
            if held:
                record.state, record.cause = GroupState.RESCHEDULING, cause
                self._want(record)
                out += self._news(record)
            out.append(self._write(record))
        for record in self._records.values():
            if node in record.watchers:
                del record.watchers[node]
                out.append(self._write(record))
        return out

    def node_suspected(self, node: int) -> list[Effect]:
        """A node may be dead: what is not decided yet goes elsewhere; what is, waits for the verdict."""
        out: list[Effect] = []
        for group in list(self._on_node.get(node, ())):
            record = self._records[group]
            if any(part.node == node and part.state in UNDECIDED for part in record.parts.values()):
                out += self._roll_back(record, f"node {node} is not heard from")
        return out

    def resume(self, node: int) -> list[Effect]:
        """A node registers: say again what it has not confirmed, and what it watches."""
        out: list[Effect] = []
        for group in self._on_node.get(node, ()):
            record = self._records[group]
            out += [
                command(record, part) for part in record.parts.values() if part.node == node and is_open(part)
            ]
        watched = [record for record in self._records.values() if node in record.watchers]
        return [*out, *(Tell(node, changed(record)) for record in watched)]

    def tick(self, now_s: float, version: int, nodes: Callable[[], Sequence[NodeView]]) -> list[Effect]:
        """Give up what takes too long, and choose nodes for who waits.

        Args:
            now_s: the time.
            version: changes whenever the nodes, or what is free on them, have.
            nodes: returns those that may be used.
        """
        out: list[Effect] = []
        choices_count = 0
        usable: Sequence[NodeView] | None = None
        for group in list(self._wanting):
            record = self._records[group]
            if record.is_under_way():
                if now_s >= record.deadline_s:
                    out += self._roll_back(record, f"a node did not answer within {ATTEMPT_TIMEOUT_S:g} s")
                continue
            if record.tried_version == version and now_s < record.retry_s:
                continue
            if choices_count >= CHOICES_PER_TICK_MAX:
                break
            choices_count += 1
            usable = nodes() if usable is None else usable
            out += self._try(record, usable, now_s, version)
        return out

    def _try(
        self, record: GroupRecord, usable: Sequence[NodeView], now_s: float, version: int
    ) -> list[Effect]:
        holders = record.holders()
        missing = tuple(bundle for bundle, node in enumerate(holders) if not node)
        wish = Wish(record.spec, missing, frozenset(node for node in holders if node))
        chosen = self._choose(wish, usable, self._promised())
        if isinstance(chosen, NoRoom) and not chosen.never:
            chosen = self._insist(record, wish, usable, now_s) or chosen
        if isinstance(chosen, NoRoom):
            record.tried_version, record.retry_s = version, now_s + RETRY_S
            return self._no_room(record, chosen, now_s)
        record.impossible_since_s = None
        record.attempt += 1
        record.deadline_s = now_s + ATTEMPT_TIMEOUT_S
        by_node: dict[int, list[int]] = {}
        for bundle, node in zip(missing, chosen, strict=True):
            by_node.setdefault(node, []).append(bundle)
        parts = [self._add_part(record, node, record.attempt, tuple(b)) for node, b in by_node.items()]
        return [self._write(record), *(command(record, part) for part in parts)]

    def _insist(
        self, record: GroupRecord, wish: Wish, usable: Sequence[NodeView], now_s: float
    ) -> list[int] | None:
        """Choose nodes that are to make room for a group; None if it is not its turn."""
        if record.waiting_since_s is None:
            record.waiting_since_s = now_s
        other = self._records.get(self._insisting)
        if now_s - record.waiting_since_s < PATIENCE_S or (other is not None and other.is_under_way()):
            return None
        held: dict[int, ResourceSet] = {}
        for one in self._records.values():
            for part in one.parts.values():
                for bundle in part.bundles:
                    held[part.node] = held.get(part.node, ResourceSet()).add(one.spec.bundles[bundle])
        emptied = [
            node._replace(available=node.total.subtract(held.get(node.node, ResourceSet())))
            for node in usable
            if node.node not in record.avoided
        ]
        chosen = self._choose(wish, emptied, {})
        if isinstance(chosen, NoRoom):
            record.avoided.clear()
            return None
        self._insisting = wish.spec.group
        return chosen

    def _no_room(self, record: GroupRecord, answer: NoRoom, now_s: float) -> list[Effect]:
        is_news = record.cause != answer.cause
        record.cause = answer.cause
        if not answer.never:
            record.impossible_since_s = None
        elif record.impossible_since_s is None:
            record.impossible_since_s = now_s
        if self._refuse_after_s is not None and record.impossible_since_s is not None:
            is_new = record.state is GroupState.PENDING
            if is_new and now_s - record.impossible_since_s >= self._refuse_after_s:
                return self._end(record, GroupState.INFEASIBLE, answer.cause)
        return self._news(record) if is_news else []

    def _promised(self) -> dict[int, ResourceSet]:
        """What nodes were asked for, and may not have taken off what they report as free."""
        out: dict[int, ResourceSet] = {}
        for group in self._wanting:
            record = self._records[group]
            for part in record.parts.values():
                if part.state is PartState.ASKED:
                    for bundle in part.bundles:
                        out[part.node] = out.get(part.node, ResourceSet()).add(record.spec.bundles[bundle])
        return out

    # ------------------------------------------------------------ inside

    def _find(self, node: int, group: str, attempt: int) -> tuple[GroupRecord | None, Part | None]:
        record = self._records.get(group)
        return record, record.parts.get((node, attempt)) if record is not None else None

    def _want(self, record: GroupRecord) -> None:
        if record.state not in GONE and 0 in record.holders():
            self._wanting[record.spec.group] = None

    def _add_part(self, record: GroupRecord, node: int, attempt: int, bundles: tuple[int, ...]) -> Part:
        part = record.parts[node, attempt] = Part(node, attempt, bundles)
        self._on_node.setdefault(node, {})[record.spec.group] = None
        return part

    def _drop_part(self, record: GroupRecord, part: Part) -> None:
        del record.parts[part.node, part.attempt]
        if not any(other.node == part.node for other in record.parts.values()):
            groups = self._on_node[part.node]
            del groups[record.spec.group]
            if not groups:
                del self._on_node[part.node]

    def _release(self, record: GroupRecord, parts: Iterable[Part], reason: str) -> list[Effect]:
        out: list[Effect] = []
        for part in parts:
            part.state, part.reason = PartState.RELEASING, reason
            out.append(command(record, part))
        return out

    def _roll_back(self, record: GroupRecord, cause: str) -> list[Effect]:
        """Give up the attempt under way; the next `tick` begins another."""
        undecided = [part for part in record.parts.values() if part.state in UNDECIDED]
        out = self._release(record, undecided, cause)
        record.cause = cause
        record.tried_version, record.retry_s = -1, 0.0
        return [*out, self._write(record)]

    def _end(self, record: GroupRecord, state: GroupState, cause: str) -> list[Effect]:
        living = [part for part in record.parts.values() if part.state is not PartState.RELEASING]
        out = self._release(record, living, cause)
        record.state, record.cause = state, cause
        self._wanting.pop(record.spec.group, None)
        self._ended.append(record.spec.group)
        out += self._news(record)
        return [*out, self._write(record)]

    def take_ended(self) -> list[str]:
        """Return the groups that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _news(self, record: GroupRecord) -> list[Effect]:
        return [Tell(node, changed(record)) for node in record.watchers]

    def _write(self, record: GroupRecord) -> Write:
        """Store a group; or, if it is gone and nowhere any more, forget it."""
        group = record.spec.group
        if record.state in GONE and not record.parts:
            if self._records.pop(group, None) is not None:
                self._gone[group] = changed(record)
                if len(self._gone) > GONE_MAX:
                    del self._gone[next(iter(self._gone))]
            return Write(TABLE, group, None)
        parts = tuple(
            StoredPart(part.node, part.attempt, part.state.value, part.bundles, part.reason)
            for part in record.parts.values()
        )
        stored = StoredGroup(
            record.spec, record.number, record.state.value, record.cause, record.attempt, parts,
            tuple(record.watchers),
        )  # fmt: skip
        return Write(TABLE, group, records.dump(stored))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for group, record in self._records.items():
            assert record.spec.group == group
            holding = [b for part in record.parts.values() if part.state in HOLDING for b in part.bundles]
            assert len(holding) == len(set(holding)), f"{group}: a bundle lies in two places"
            undecided = [b for part in record.parts.values() if part.state in UNDECIDED for b in part.bundles]
            assert not set(undecided) & set(holding), group
            whole = len(holding) == len(record.spec.bundles)
            assert (record.state is GroupState.CREATED) == whole, (group, record.state)
            assert (group in self._wanting) == (record.state not in GONE and not whole), group
            attempts = {part.attempt for part in record.parts.values() if part.state in UNDECIDED}
            assert attempts <= {record.attempt}, group
            assert record.state not in GONE or record.parts, f"{group} is gone and kept"
            for key, part in record.parts.items():
                assert key == (part.node, part.attempt) and part.attempt <= record.attempt, group
                assert record.state not in GONE or part.state is PartState.RELEASING, group
                assert group in self._on_node[part.node], group
        for node, groups in self._on_node.items():
            assert groups, node
            assert all(any(p.node == node for p in self._records[g].parts.values()) for g in groups), node
        assert len(self._gone) <= GONE_MAX
