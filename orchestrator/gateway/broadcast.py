"""Who gets an object from whom, when many want it: kept by the object's home node, which all of them ask.

How it works
============
Each node that has the object is a *root*. Everybody else who wants it is a *receiver*, and gets it from a
*parent*: a root, or another receiver, which passes on what has arrived. So the nodes form trees, and two
limits shape them:

* No node has more than `fanout_max` children, as they share its network.
* A large object takes each link the time it needs to cross it, times the children of the sender, so one child
is best: in a chain all links are busy with different parts of the object, and n nodes have it little later
than the first. But each link adds its latency, and a slow node holds up all behind it; so chains are
`chain_max` long, and then nodes get a second child, those near to a root first. A small object costs mostly
latency: there breadth is best.

A root whose children are done gets others, and who has received everything is a root. So even if nobody
passed on what he is still receiving, n nodes would have the object after about log n rounds. Who finds no
place waits for one, in the order they came; nobody waits while there is a place.

A parent that dies leaves its children with what they have; they are given other parents, and keep their own
children. A parent is never taken from below its child, or bytes would go in a circle. When no root is left,
those without a parent are told that the object is unavailable; whoever asks again after a new copy was made
is served.

Finding a place looks at all nodes of the object: 0.1 ms for a thousand.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

#: Children of one node. Two, for the reason above: with more, each of them gets so much less.
FANOUT_MAX = 2
#: A small object takes a round trip, whoever else is served.
SMALL_BYTES_MAX = 1 << 20
SMALL_FANOUT_MAX = 16
#: Chains have one node for so much of the object, and this many at most. Each node passes on a stretch of 1
#: MiB at most (`transfer/sockets.py`) when it has it, so the last one is done an eighth of the time after the
#: first, or with 1 GiB 1.5 %. With second children beyond that, 2^16 nodes find a place.
CHAIN_LINK_BYTES = 8 << 20
CHAIN_MAX = 16
#: Roots that a receiver is told of beside its parent.
OTHERS_MAX = 4


class Assigned(NamedTuple):
    """`node` is to get the object from `source`; `others` have it, too, should that fail."""

    node: int
    source: int
    others: tuple[int, ...]


class Unavailable(NamedTuple):
    """Nobody has the object: `node` can't get it."""

    node: int


Instruction = Assigned | Unavailable


@dataclass(slots=True)
class _Receiver:
    """A node that is to get the object."""

    #: None: it waits for a place
    parent: int | None = None
    children: set[int] = field(default_factory=set)


class Broadcast:
    """One object, and all who want it. See the module's text."""

    def __init__(
        self, size_bytes: int, *, fanout_max: int | None = None, chain_max: int | None = None
    ) -> None:
        small = size_bytes <= SMALL_BYTES_MAX
        self._fanout_max = fanout_max or (SMALL_FANOUT_MAX if small else FANOUT_MAX)
        self._small = small
        self._chain_max = chain_max or min(CHAIN_MAX, 1 + size_bytes // CHAIN_LINK_BYTES)
        #: each root's children, the roots in the order they came
        self._roots: OrderedDict[int, set[int]] = OrderedDict()
        self._receivers: dict[int, _Receiver] = {}
        #: exactly the receivers without a parent, the first come first
        self._waiting: OrderedDict[int, None] = OrderedDict()

    @property
    def roots(self) -> tuple[int, ...]:
        """Nodes that have all of it."""
        return tuple(self._roots)

    @property
    def receivers(self) -> tuple[int, ...]:
        """Nodes that want it and don't have it yet."""
        return tuple(self._receivers)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Those of them that were not told yet from whom they get it."""
        return tuple(self._waiting)

    # ------------------------------------------------------------ events

    def wanted(self, node: int) -> list[Instruction]:
        """A node wants the object. One that says so again is told again."""
        if node in self._roots:
            return []
        receiver = self._receivers.setdefault(node, _Receiver())
        if receiver.parent is not None:
            return [self._assigned(node, receiver.parent)]
        self._waiting[node] = None
        return self._place_all()

    def copied(self, node: int) -> list[Instruction]:
        """A node has all of it."""
        if node not in self._roots:
            receiver = self._receivers.pop(node, None) or _Receiver()
            self._part(node, receiver)
            self._roots[node] = receiver.children
        return self._place_all()

    def failed(self, node: int, source: int) -> list[Instruction]:
        """A node gets nothing from its source, and is to have another one."""
        receiver = self._receivers.get(node)
        if receiver is None or receiver.parent != source:
            return []  # it has another one already
        self._part(node, receiver)
        self._waiting[node] = None
        return self._place_all(avoid={node: source})

    def unwanted(self, node: int) -> list[Instruction]:
        """A node wants it no more. If it has it by now, it keeps it."""
        return [] if node in self._roots else self.gone(node)

    def gone(self, node: int) -> list[Instruction]:
        """A node died, or has no copy any more."""
        children = self._roots.pop(node, None)
        if children is None:
            receiver = self._receivers.pop(node, None)
            if receiver is None:
                return []
            self._part(node, receiver)
            children = receiver.children
        for child in sorted(children):
            self._receivers[child].parent = None
            self._waiting[child] = None
        return self._place_all()

    # ------------------------------------------------------------ places

    def _part(self, node: int, receiver: _Receiver) -> None:
        """Take a receiver out of its place, or out of those who wait for one."""
        self._waiting.pop(node, None)
        if receiver.parent is not None:
            self._children(receiver.parent).discard(node)
            receiver.parent = None

    def _children(self, node: int) -> set[int]:
        children = self._roots.get(node)
        return self._receivers[node].children if children is None else children

    def _assigned(self, node: int, parent: int) -> Assigned:
        others = [root for root in self._roots if root != parent]
        return Assigned(node, parent, tuple(others[-OTHERS_MAX:]))

    def _place_all(self, avoid: dict[int, int] | None = None) -> list[Instruction]:
        out: list[Instruction] = []
        for node in list(self._waiting):
            if node not in self._waiting:
                continue  # it went with another one
            if not self._roots:
                out.append(Unavailable(node))
                out += self.gone(node)
                continue
            parent = self._find(node, (avoid or {}).get(node))
            if parent is not None:
                del self._waiting[node]
                self._receivers[node].parent = parent
                self._children(parent).add(node)
                out.append(self._assigned(node, parent))
        return out

    def _find(self, node: int, avoided: int | None) -> int | None:
        """Return the best parent for a node; `avoided` only if there is no other."""
        below = self._below(node)
        best: tuple[bool, bool, int, int] | None = None
        parent = None
        for candidate, depth in self._depths().items():
            count = len(self._children(candidate))
            if count >= self._fanout_max or candidate in below:
                continue
            # A first child in a chain that isn't too long goes before a second one anywhere.
            second = not self._small and (count > 0 or depth >= self._chain_max)
            rank = (candidate == avoided, second, depth, count)
            if best is None or rank < best:
                best, parent = rank, candidate
        return parent

    def _depths(self) -> dict[int, int]:
        """How far each node that is connected to a root is from it."""
        depths = dict.fromkeys(self._roots, 0)
        queue = list(depths)
        for node in queue:
            for child in self._children(node):
                depths[child] = depths[node] + 1
                queue.append(child)
        return depths

    def _below(self, node: int) -> set[int]:
        below = [node]
        for one in below:
            below.extend(self._children(one))
        return set(below)

    # ------------------------------------------------------------ invariants

    def validate(self) -> None:
        """Raise AssertionError if an invariant doesn't hold."""
        assert not self._roots.keys() & self._receivers.keys()
        assert set(self._waiting) == {node for node, one in self._receivers.items() if one.parent is None}
        children = [child for node in (*self._roots, *self._receivers) for child in self._children(node)]
        assert len(children) == len(set(children)), "a child of two parents"
        for node in (*self._roots, *self._receivers):
            assert len(self._children(node)) <= self._fanout_max
            assert all(self._receivers[child].parent == node for child in self._children(node))
            assert len(self._below(node)) <= len(self._roots) + len(self._receivers), "a circle"
        for node in self._waiting:
            assert self._roots, "somebody waits for what nobody has"
            assert self._find(node, None) is None, f"node {node} waits while there is a place"
