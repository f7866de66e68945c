"""Which nodes to ask for the leases that the clients of this node want: events in, instructions out.

How it works
============
A client states how many workers of a class it wants (`Demand`). The router divides that number between
nodes, the own one among them, and tells each of them its part (`AskNode`). Each *unit* of it is with one
node at a time (`asks.py`), so no worker is asked for twice, whatever is delayed:

====================  =================================================================================
event                 consequence
====================  =================================================================================
demand, more          nodes with room are asked (`policies.py`); what finds none waits, on nodes that could
                      serve it: the own one first, on each as many as it could serve at once
demand, less          units are asked back, the ones that wait first
granted               one less is wanted, one less is open
refused               the units are free again, and the view counts the node as full until its next report
view changed          units that wait are asked back to where there is room; when they are back it is asked
node died             its units are free again
silence               units are asked back, then given up
no node could ever    the client hears why; a node may join, so it waits on, and hears it again now and then
nowhere, ever         the client hears it, after a moment for news that may be under way, and it is dropped
====================  =================================================================================

*Waiting.* A unit waits in the queue of a node (`patient`), where the rules of sharing hold for it as for
everybody. With the router it would wait for a moment in which the node has nobody else: for ever, if the
node is busy. When room appears elsewhere it moves. A node that was asked because it had room, and has none,
refuses at once: that is spill-back, and the refusal comes with the news that made the choice wrong.

*The own node* is asked as the others are, through its own `Lender`, and answers at once. What a grant of
the local scheduler means for the router must not be overtaken by what the router says meanwhile. So the
caller keeps one queue of events for a router, does all that it returns for one event, and then hands over
the next.

*Placement groups.* The view knows nothing of bundles. A unit for a certain bundle waits on its node. One
for any bundle tries the nodes of the group in turn, then waits on one of them, and begins again after
`SWEEP_S`. A bundle whose node has died lies nowhere (node 0) until the group says where it is now.

*Infeasible.* A demand that none of the present nodes could serve waits for one that could: somebody may be
about to start it. Never is only what names a node that is gone or too small, or a placement group that was
removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.common.scheduling_class import InBundle, OnNode, SchedulingClass
from orchestrator.scheduling.cluster.asks import Ask, AskBook, Wanted
from orchestrator.scheduling.cluster.feasibility import can_be_started, objection, where_it_waits
from orchestrator.scheduling.cluster.lease_events import (
    ClientGone,
    Complain,
    Demand,
    Event,
    Explain,
    Failed,
    Granted,
    GroupGone,
    GroupPlaced,
    Infeasible,
    Instruction,
    NodeDied,
    Refused,
    Tick,
    ViewChanged,
)
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView
from orchestrator.scheduling.events import GROUP_REMOVED, INFEASIBLE, UNSCHEDULABLE

#: How long a demand that can never be served is kept: news of a node may be under way.
INFEASIBLE_AFTER_S = 0.5
#: When it is first said of a demand that no present node could serve it, and by what factor each further time
#: is later, up to a most.
LACKING_EXPLAINED_S = (1.0, 4.0, 3600.0)
#: A wait of this long is explained, once.
EXPLAIN_AFTER_S = 10.0
#: A node that has not answered for this long is asked to give its units back, and after as long again they
#: are written off. Nodes repeat their answers three times as often.
SILENT_S = 10.0
#: What a node has granted or refused counts against it until its next report, at most for this long.
FORGIVE_S = 2.0
#: How often a demand for any bundle of a group tries all its nodes.
SWEEP_S = 1.0
#: Nodes on which units of one demand wait at the same time.
WAIT_NODES_MAX = 64
#: How often `Tick` is wanted while something waits; while nothing does and something is open.
TICK_S, TICK_OPEN_S = 0.1, 1.0
#: Removed placement groups of which it is still known that they are gone.
GONE_MAX = 10_000


class LeaseRouter:
    """See the module's text. `handle` is the only way in; the caller performs what it returns, in order.

    Args:
        local: the number of this node.
        view: what is known of the cluster. The caller reports nodes to it, this one as well, and says so
            (`ViewChanged`); the router counts in it what it has asked for.
        chooser: chooses nodes by that view.
        refuse_after_s: for how long a demand may want what no node has; None: for ever, as one may join.
    """

    def __init__(
        self,
        local: int,
        view: ClusterView,
        chooser: NodeChooser,
        *,
        refuse_after_s: float | None = None,
    ) -> None:
        self._local = local
        self._view = view
        self._chooser = chooser
        self._refuse_after_s = refuse_after_s
        self._book = AskBook(view)
        self._groups: dict[str, tuple[int, ...]] = {}
        self._groups_gone: dict[str, None] = {}
        #: Node to the version of its report, and the time, at which something was first spent there.
        self._spent: dict[int, tuple[int, float]] = {}
        self._now_s = 0.0
        self._gains_seen = -1
        self._out: list[Instruction] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Demand: self._demand,
            Granted: self._granted,
            Refused: self._refused,
            Failed: self._failed,
            ViewChanged: lambda _: None,
            NodeDied: self._node_died,
            GroupPlaced: self._group_placed,
            GroupGone: self._group_gone,
            ClientGone: lambda event: self._book.forget_client(event.client),
            Tick: self._tick,
        }

    def handle(self, event: Event, now_s: float) -> list[Instruction]:
        """Take one event into account and return what to do. Events that make no sense change nothing."""
        self._now_s = now_s
        out = self._out = []
        asks = self._book.out = []
        self._handlers[type(event)](event)
        self._divide()
        return [*out, *asks]

    def deadline_s(self) -> float | None:
        """Return when the next `Tick` is needed at the latest; None if only other events matter."""
        if any(one.want for one in self._book.wanted.values()):
            return self._now_s + TICK_S
        if self._spent or self._book.wanted:
            return self._now_s + TICK_OPEN_S
        return None

    def waiting(self) -> list[tuple[SchedulingClass, int]]:
        """Return what is wanted and not granted, for the report to the autoscaler: classes with counts."""
        return [(one.scheduling, one.want) for one in self._book.wanted.values() if one.want]

    # ------------------------------------------------------------ events

    def _demand(self, event: Demand) -> None:
        one = self._book.wanted.get((event.client, event.class_key))
        if one is None:
            if not event.want:
                return
            one = self._book.open(event.client, event.class_key, event.scheduling, self._now_s)
        elif one.scheduling != event.scheduling:
            text = f"class {event.class_key!r} of client {event.client} means something else than before"
            self._out.append(Complain(text))
            return
        if not one.want:
            one.since_s, one.explained = self._now_s, False
        one.want, one.near, one.job = event.want, event.near, event.job

    def _asked(self, event: Granted | Refused | Failed) -> tuple[Wanted, Ask] | None:
        one = self._book.wanted.get((event.client, event.class_key))
        ask = None if one is None else one.asks.get(event.node)
        return None if one is None or ask is None else (one, ask)

    def _granted(self, event: Granted) -> None:
        found = self._asked(event)
        if found is None:
            return  # its client is gone
        one, ask = found
        ask.heard_s = one.since_s = self._now_s
        one.explained = False
        if self._book.granted(one, ask):
            self._is_spent(event.node)
        key = (event.client, event.class_key)
        self._book.wanted[key] = self._book.wanted.pop(key)

    def _refused(self, event: Refused) -> None:
        found = self._asked(event)
        if found is None:
            return
        one, ask = found
        ask.heard_s = self._now_s
        if event.serial != ask.serial:
            return  # said before it heard the last one, which it will answer too
        ask.withdrawn_s = None
        is_refusal = event.left < ask.told
        self._book.left(one, ask, event.left)
        if is_refusal:
            one.refused_s[event.node] = self._now_s
            if one.group is None and event.node in self._view:
                self._view.exhaust(event.node, one.scheduling.resources)
                self._is_spent(event.node)

    def _failed(self, event: Failed) -> None:
        found = self._asked(event)
        if found is None:
            return
        one, ask = found
        if event.verdict in (INFEASIBLE, UNSCHEDULABLE):
            # By its own books it can't: ours were old.
            self._refused(Refused(event.client, event.class_key, event.node, ask.serial))
        else:
            self._book.left(one, ask, 0)
            self._give_up(one, event.verdict, event.cause)

    def _node_died(self, event: NodeDied) -> None:
        self._spent.pop(event.node, None)
        self._book.forget_node(event.node)
        self._view.remove(event.node)
        for group, nodes in self._groups.items():
            if event.node in nodes:
                self._groups[group] = tuple(0 if node == event.node else node for node in nodes)

    def _group_placed(self, event: GroupPlaced) -> None:
        self._groups[event.group] = event.nodes

    def _group_gone(self, event: GroupGone) -> None:
        self._groups.pop(event.group, None)
        self._groups_gone[event.group] = None
        if len(self._groups_gone) > GONE_MAX:
            del self._groups_gone[next(iter(self._groups_gone))]

    def _tick(self, _: Tick) -> None:
        for node, (version, since_s) in list(self._spent.items()):
            report = self._view.get(node)
            if report is None or report.version != version:
                del self._spent[node]
            elif self._now_s - since_s >= FORGIVE_S:
                del self._spent[node]
                self._view.forgive(node)
        for one in self._book.wanted.values():
            for ask in one.asks.values():
                if ask.open and self._now_s - ask.heard_s >= SILENT_S:
                    self._is_silent(one, ask)
            is_late = one.want and self._now_s - one.since_s >= EXPLAIN_AFTER_S
            if is_late and not one.explained and one.infeasible_s is None:
                one.explained = True
                self._out.append(Explain(one.client, one.class_key, self._explanation(one)))

    def _is_silent(self, one: Wanted, ask: Ask) -> None:
        if ask.withdrawn_s is None:
            ask.withdrawn_s = self._now_s
            self._book.tell(one, ask, 0)
        elif self._now_s - ask.withdrawn_s >= SILENT_S:
            ask.withdrawn_s = None
            text = f"node {ask.node} has not answered for {2 * SILENT_S:g} s: {ask.open} leases given up"
            self._out.append(Complain(text))
            self._book.left(one, ask, 0)
            if ask.node in self._view:
                self._view.exhaust(ask.node, one.scheduling.resources)
                self._is_spent(ask.node)

    # ------------------------------------------------------------ dividing

    def _divide(self) -> None:
        """Bring what nodes were asked for into line with what is wanted, and with where there is room."""
        book = self._book
        for one in list(book.wanted.values()):
            if one.want:
                self._refuse_impossible(one)
            self._ask_back(one)
            book.demote(one)
            self._use_reserved(one)
        has_gains = self._view.gains != self._gains_seen
        hungry = [one for one in book.wanted.values() if one.free or (has_gains and one.waiting)]
        hungry.sort(key=lambda one: -one.scheduling.priority)
        # In rounds, so that room for a few is not taken by whoever comes first: 1 each, then 2, 4, ...
        share = 1
        unserved = [one for one in hungry if one.group is None]
        while unserved:
            if len(unserved) == 1:
                share = unserved[0].want
            unserved = [one for one in unserved if self._use_room(one, share)]
            share *= 2
        for one in book.wanted.values():
            if one.group is not None:
                self._use_group(one, one.group)
            elif one.free:
                self._wait_somewhere(one)
        self._gains_seen = self._view.gains
        book.close_finished(self._now_s)

    def _refuse_impossible(self, one: Wanted) -> None:
        """Give up a demand that can never be served, after a moment."""
        group = one.group
        if group is not None:
            nodes = self._groups.get(group.group)
            if group.group in self._groups_gone:
                self._give_up(one, GROUP_REMOVED, "its placement group was removed")
            elif nodes is not None and group.bundle >= len(nodes):
                cause = f"its placement group has {len(nodes)} bundles, and none at {group.bundle}"
                self._give_up(one, INFEASIBLE, cause)
        elif self._chooser.feasible(one.scheduling).any() or can_be_started(self._view, one.scheduling):
            one.infeasible_s = None
        elif one.infeasible_s is None:
            one.infeasible_s = self._now_s
            one.explain_after_s = LACKING_EXPLAINED_S[0]
        else:
            self._is_lacking(one, self._now_s - one.infeasible_s)

    def _is_lacking(self, one: Wanted, lacking_s: float) -> None:
        """Speak of a demand that no node could serve, or give it up."""
        place = one.scheduling.placement
        is_final = isinstance(place, OnNode) and not place.soft
        limit_s = INFEASIBLE_AFTER_S if is_final else self._refuse_after_s
        is_over = limit_s is not None and lacking_s >= limit_s
        if not is_over and lacking_s < one.explain_after_s:
            return
        found = objection(self._view, one.scheduling)
        assert found is not None, one.scheduling
        verdict, cause = found
        if is_over:
            waited = "" if is_final else f" (no such node joined within {limit_s:g} s)"
            self._give_up(one, verdict, cause + waited)
            return
        _, factor, most_s = LACKING_EXPLAINED_S
        one.explain_after_s += min(one.explain_after_s * (factor - 1), most_s)
        text = f"waits for a node to join: {cause}"
        self._out.append(Explain(one.client, one.class_key, text))

    def _give_up(self, one: Wanted, verdict: str, cause: str) -> None:
        self._out.append(Infeasible(one.client, one.class_key, verdict, cause))
        one.want = 0

    def _ask_back(self, one: Wanted) -> None:
        """Ask for units that are not wanted any more: first those that wait, last those of the own node."""
        nodes = None if one.group is None else self._groups.get(one.group.group)
        if nodes is not None:
            for ask in one.asks.values():
                if ask.told and ask.node not in nodes:
                    self._book.tell(one, ask, 0)
        excess = one.told - one.want
        if excess > 0:
            for ask in sorted(one.asks.values(), key=lambda ask: (not ask.waiting, ask.node == self._local)):
                back = min(excess, ask.told)
                if back:
                    self._book.tell(one, ask, ask.told - back)
                    excess -= back
        surplus = one.secure + sum(one.reserved.values()) - one.want
        for node in list(one.reserved):
            if surplus > 0:
                back = min(surplus, one.reserved[node])
                self._book.unreserve(one, node, back)
                surplus -= back

    def _use_reserved(self, one: Wanted) -> None:
        """Ask the nodes where there is room for units that have come back."""
        for node in list(one.reserved):
            n = min(one.held, one.reserved[node])
            if n:
                self._book.unreserve(one, node, n, promised=True)
                self._book.give(one, node, n, self._now_s, promised=True, patient=False)

    def _use_room(self, one: Wanted, share: int) -> bool:
        """Have up to `share` units go where there is room; return whether there may be room for more."""
        n = min(one.want - one.secure - sum(one.reserved.values()), share)
        if n <= 0:
            return False
        placed = self._chooser.place(one.scheduling, n, one.near)
        for node, count in placed.items():
            ask = one.asks.get(node)
            here = min(count, ask.waiting) if ask is not None else 0
            if ask is not None and here:
                ask.promised += here  # they wait there already: they will be served there
            if count > here:
                self._book.reserve(one, node, count - here)
        self._use_reserved(one)
        # Units that wait elsewhere are asked back for what is still reserved.
        under_way = one.open - one.told
        self._make_way(one, sum(one.reserved.values()) - one.held - under_way)
        self._use_reserved(one)
        return sum(placed.values()) == n

    def _make_way(self, one: Wanted, count: int) -> None:
        """Ask waiting units back, first those of the own node: they are back soonest."""
        for ask in sorted(one.asks.values(), key=lambda ask: ask.node != self._local):
            back = min(count, ask.waiting)
            if back > 0:
                self._book.tell(one, ask, ask.told - back)
                count -= back

    def _wait_somewhere(self, one: Wanted) -> None:
        free = one.free
        places = self._chooser.waiting_places(one.scheduling, one.want, WAIT_NODES_MAX, one.near)
        for node, most in places.items():
            ask = one.asks.get(node)
            n = min(free, most - (0 if ask is None else ask.open))
            if n > 0:
                self._book.give(one, node, n, self._now_s, promised=False, patient=True)
                free -= n

    def _use_group(self, one: Wanted, group: InBundle) -> None:
        """Ask nodes of a placement group, of whose bundles nothing is known but where they are."""
        nodes = self._groups.get(group.group, ())
        if not nodes or not one.want:
            return
        targets = [nodes[group.bundle]] if group.bundle >= 0 else list(dict.fromkeys(nodes))
        targets = sorted((node for node in targets if node), key=lambda node: node != self._local)
        if not targets:
            return
        if len(targets) == 1:
            if one.held:
                self._book.give(one, targets[0], one.held, self._now_s, promised=False, patient=True)
            return
        if self._now_s - max(one.refused_s.values(), default=self._now_s) >= SWEEP_S:
            one.refused_s.clear()
            for ask in one.asks.values():
                if ask.told and ask.patient:
                    self._book.tell(one, ask, 0)
        trying = any(ask.open and not ask.patient for ask in one.asks.values())
        if not one.held or trying:
            return
        fresh = [node for node in targets if node not in one.refused_s]
        if fresh:
            self._book.give(one, fresh[0], one.held, self._now_s, promised=False, patient=False)
            return
        order = sorted(targets, key=lambda node: one.asks[node].serial if node in one.asks else 0)
        for place, node in enumerate(order):
            n = -(-one.held // (len(order) - place))
            if n:
                self._book.give(one, node, n, self._now_s, promised=False, patient=True)

    # ------------------------------------------------------------ small things

    def _is_spent(self, node: int) -> None:
        report = self._view.get(node)
        if report is not None:
            known = self._spent.get(node)
            if known is None or known[0] != report.version:
                self._spent[node] = (report.version, self._now_s)

    def _explanation(self, one: Wanted) -> str:
        begin = f"has waited {EXPLAIN_AFTER_S:g} s for {one.scheduling.resources}"
        if one.group is not None:
            nodes = self._groups.get(one.group.group)
            if nodes is None:
                return f"{begin} in a placement group that is not created yet"
            if not all(nodes):
                return f"{begin} in a placement group that lost a node, and is being made whole again"
            return f"{begin} in its placement group, whose bundles are in use"
        return f"{begin}: {where_it_waits(self._view, one.scheduling)}"

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        self._book.validate()
        # Nothing is forgotten: a demand that some node could serve is with a node, or about to be.
        for one in self._book.wanted.values():
            if one.want and one.group is None:
                assert one.open or one.reserved or not self._chooser.feasible(one.scheduling).any(), one.asks
