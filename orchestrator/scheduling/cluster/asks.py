"""What a node has asked of which others for its clients: the bookkeeping of the lease router.

A *unit* is one worker that a client wants. Each unit is in one of these places:

=========  ===================================================================================
held       with the router: nobody has been asked
reserved   with the router, room on a node is promised to it, and it waits for another to be back
open       with a node, which may grant it: `Ask.open`
=========  ===================================================================================

A unit that was given to a node comes back only by the node's word (a grant, or an answer that leaves it
out), its death, or its long silence. To withdraw is therefore to ask for it: the node is told a smaller
number, and until it has answered the unit counts as open, because its grant may be under way.
"""

from __future__ import annotations

from orchestrator.common.scheduling_class import InBundle, SchedulingClass
from orchestrator.scheduling.cluster.lease_events import AskNode, ClassKey
from orchestrator.scheduling.cluster.view import ClusterView

#: How long a demand that is met is kept: the next one of its kind often comes soon.
CLOSE_AFTER_S = 5.0


class Ask:
    """What one node has been asked for on behalf of one demand."""

    __slots__ = (
        "heard_s",
        "node",
        "open",
        "patient",
        "promised",
        "seen",
        "serial",
        "since",
        "told",
        "withdrawn_s",
    )

    def __init__(self, node: int, now_s: float) -> None:
        self.node = node
        #: Units that it may still grant. At most what the demand wanted when the last of them was asked for.
        self.open = 0
        #: What it was told last, less what it has granted since; below `open` while it is asked for units
        #: back.
        self.told = 0
        #: How many of the open units the view counts as taken there; the others wait for room.
        self.promised = 0
        #: Grants that have arrived.
        self.seen = 0
        #: Of the last ask, and of the first one.
        self.serial = 0
        self.since = 0
        self.patient = False
        #: When it was first asked for what is open, or last answered.
        self.heard_s = now_s
        #: Since when everything has been asked back, because it is silent.
        self.withdrawn_s: float | None = None

    @property
    def waiting(self) -> int:
        """Units that wait there for room, and have not been asked back."""
        return max(0, self.told - self.promised)

    def __repr__(self) -> str:
        return f"<ask {self.node}: {self.open} open, {self.told} told, {self.promised} promised>"


class Wanted:
    """One demand: a client and a class."""

    __slots__ = (
        "asks",
        "class_key",
        "client",
        "explain_after_s",
        "explained",
        "idle_s",
        "infeasible_s",
        "job",
        "near",
        "refused_s",
        "reserved",
        "scheduling",
        "since_s",
        "want",
    )

    def __init__(self, client: int, class_key: ClassKey, scheduling: SchedulingClass, now_s: float) -> None:
        self.client = client
        self.class_key = class_key
        self.scheduling = scheduling
        #: Units that are still wanted.
        self.want = 0
        #: The node to be asked first; 0 if it doesn't matter.
        self.near = 0
        self.job = ""
        #: By node. A record stays while the node may remember the count of its grants.
        self.asks: dict[int, Ask] = {}
        #: Units for which room is promised on a node, and which are to be asked for there as soon as others
        #: are back.
        self.reserved: dict[int, int] = {}
        #: When it began to wait: when it came, or last had a worker.
        self.since_s = now_s
        self.explained = False
        #: Since when nothing is wanted and nothing can come.
        self.idle_s: float | None = None
        #: Since when no node could ever serve it, and after how long of that this is said (again).
        self.infeasible_s: float | None = None
        self.explain_after_s = 0.0
        #: When nodes of its placement group last refused.
        self.refused_s: dict[int, float] = {}

    @property
    def group(self) -> InBundle | None:
        """The placement group that it is for."""
        place = self.scheduling.placement
        return place if isinstance(place, InBundle) else None

    @property
    def open(self) -> int:
        """Units that are with nodes."""
        return sum(ask.open for ask in self.asks.values())

    @property
    def told(self) -> int:
        """Units that are with nodes and have not been asked back."""
        return sum(ask.told for ask in self.asks.values())

    @property
    def secure(self) -> int:
        """Units that are with nodes which have room for them."""
        return sum(min(ask.told, ask.promised) for ask in self.asks.values())

    @property
    def waiting(self) -> int:
        """Units that are with nodes which have no room for them yet."""
        return sum(ask.waiting for ask in self.asks.values())

    @property
    def held(self) -> int:
        """Units with which something can be done at once."""
        return max(0, self.want - self.open)

    @property
    def free(self) -> int:
        """Units that are held and for which no room is reserved."""
        return max(0, self.held - sum(self.reserved.values()))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for ask in self.asks.values():
            assert 0 <= ask.told <= ask.open, ask
            assert 0 <= ask.promised <= ask.open, ask
        # What is asked for beyond what is wanted is at least being asked back.
        assert self.told <= self.want, (self.told, self.want, self.asks)
        assert all(n > 0 for n in self.reserved.values()), self.reserved
        assert self.secure + sum(self.reserved.values()) <= self.want, (self.want, self.asks, self.reserved)


class AskBook:
    """All demands of the clients of one node, and how units move between the places they can be in.

    Args:
        view: where units that are given to nodes with room for them are promised.
    """

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        #: Demands, those that were served last at the end. Each stays for a while when it is met: its nodes
        #: count grants, and the next one counts on from there.
        self.wanted: dict[tuple[int, ClassKey], Wanted] = {}
        self._serial = 0
        #: What nodes are to be told.
        self.out: list[AskNode] = []

    def open(self, client: int, class_key: ClassKey, scheduling: SchedulingClass, now_s: float) -> Wanted:
        """Enter a demand, for which nothing is wanted so far."""
        key = (client, class_key)
        self.wanted[key] = Wanted(client, class_key, scheduling, now_s)
        return self.wanted[key]

    def close_finished(self, now_s: float) -> None:
        """Take out the demands that were met a while ago, and have the nodes forget what they count."""
        for key, one in list(self.wanted.items()):
            if one.want or one.open or one.reserved:
                one.idle_s = None
            elif one.idle_s is None:
                one.idle_s = now_s
            elif now_s - one.idle_s >= CLOSE_AFTER_S:
                for ask in one.asks.values():
                    self.tell(one, ask, 0)
                del self.wanted[key]

    def forget_client(self, client: int) -> None:
        """Take out everything of a client that is gone, and tell the nodes."""
        for key in [key for key in self.wanted if key[0] == client]:
            one = self.wanted[key]
            one.want = 0
            for ask in one.asks.values():
                if ask.open:
                    self.tell(one, ask, 0)
                    ask.open = 0
                    self.promise(one, ask, 0)
            for node, n in list(one.reserved.items()):
                self.unreserve(one, node, n)
            del self.wanted[key]

    def forget_node(self, node: int) -> None:
        """Take back everything from a node that is gone. The view forgets it as well."""
        for one in self.wanted.values():
            one.asks.pop(node, None)
            one.reserved.pop(node, None)
            one.refused_s.pop(node, None)

    # ------------------------------------------------------------ units on their way

    def give(self, one: Wanted, node: int, n: int, now_s: float, *, promised: bool, patient: bool) -> None:
        """Ask a node for some more units. If they are `promised`, the view knows that already."""
        ask = one.asks.get(node)
        if ask is None:
            ask = one.asks[node] = Ask(node, now_s)
        if not ask.open:
            ask.heard_s, ask.withdrawn_s, ask.patient = now_s, None, False
        ask.patient = ask.patient or patient
        ask.open += n
        if promised:
            ask.promised += n
        self.tell(one, ask, ask.told + n)

    def tell(self, one: Wanted, ask: Ask, told: int) -> None:
        """Tell a node how much it may still grant."""
        self._serial += 1
        ask.serial, ask.told = self._serial, told
        ask.since = ask.since or self._serial
        self.out.append(
            AskNode(
                node=ask.node,
                client=one.client,
                class_key=one.class_key,
                scheduling=one.scheduling,
                want=told,
                seen=ask.seen,
                serial=ask.serial,
                since=ask.since,
                patient=ask.patient,
                job=one.job,
            )
        )

    def granted(self, one: Wanted, ask: Ask) -> bool:
        """Take a grant into account; return whether it was of a unit that had been promised in the view."""
        ask.seen += 1
        one.want = max(0, one.want - 1)
        if not ask.open:
            return False  # it was given up, or is more than was asked for
        ask.open -= 1
        ask.told = max(0, ask.told - 1)
        if not ask.promised:
            return False
        ask.promised -= 1
        self._view.settle(ask.node, one.scheduling.resources, 1)
        return True

    def left(self, one: Wanted, ask: Ask, left: int) -> None:
        """Take back what a node has not kept."""
        ask.open = min(ask.open, left)
        ask.told = min(ask.told, ask.open)
        self.promise(one, ask, min(ask.promised, ask.open))

    def promise(self, one: Wanted, ask: Ask, promised: int) -> None:
        """Change how many of the units that a node has are counted in the view."""
        if promised != ask.promised:
            self._view.promise(ask.node, one.scheduling.resources, promised - ask.promised)
            ask.promised = promised

    def reserve(self, one: Wanted, node: int, n: int) -> None:
        """Keep room that is promised on a node for units that are not back yet."""
        one.reserved[node] = one.reserved.get(node, 0) + n

    def unreserve(self, one: Wanted, node: int, n: int, *, promised: bool = False) -> None:
        """Let go of reserved room; with `promised` it stays promised, for an ask."""
        left = one.reserved.pop(node) - n
        if left:
            one.reserved[node] = left
        if not promised:
            self._view.promise(node, one.scheduling.resources, -n)

    def demote(self, one: Wanted) -> None:
        """Count units as waiting that were given to a node with room which has none for them any more."""
        for ask in one.asks.values():
            if ask.promised and ask.patient:
                short = self._view.shortage(ask.node, one.scheduling.resources)
                if short:
                    self.promise(one, ask, max(0, ask.promised - short))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        promised: dict[int, dict[str, int]] = {}
        for one in self.wanted.values():
            one.validate()
            for node, n in [*((ask.node, ask.promised) for ask in one.asks.values()), *one.reserved.items()]:
                for name in one.scheduling.resources:
                    at = promised.setdefault(node, {})
                    at[name] = at.get(name, 0) + n * one.scheduling.resources[name]
        for report in self._view:
            expected = {name: units for name, units in promised.get(report.node, {}).items() if units}
            assert self._view.promised(report.node) == expected, (report, expected)
