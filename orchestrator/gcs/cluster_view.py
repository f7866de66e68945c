"""The cluster as every node sees it: the head publishes versions, a node follows them.

Each change of a node's view gets the next *version*, and the entry moves to the end of one ordered dict. What
a subscriber lacks are then the entries at the end with a higher version than his: no log is kept, a node that
changed a hundred times meanwhile is sent once, and the cost is that of what is sent. History is bounded: of
dead nodes the last `DEAD_MAX` are kept, and a subscriber who may have missed an older one's end gets a
*snapshot*: all that live, and what is not in it is gone.

Resources are not stored, so versions mean nothing to the next head: it has another *epoch*, and whoever comes
with another one gets a snapshot, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.gcs.messages import NodeView, View

DEAD = "DEAD"
#: Dead nodes whose end is still news.
DEAD_MAX = 1000
#: Nodes in one view: with labels and demands a node may take some KiB, and a message is bounded.
NODES_PER_VIEW_MAX = 1000


class ViewPublisher:
    """The head's side. Pure."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.version = 0
        #: Node to (version, view), the latest change last.
        self._entries: dict[int, tuple[int, NodeView]] = {}
        self._dead: dict[int, None] = {}
        #: The latest version with a dead node that is no longer kept.
        self._forgotten_version = 0

    def publish(self, views: Iterable[NodeView]) -> None:
        """These nodes look like that now."""
        for view in views:
            self.version += 1
            self._entries.pop(view.node, None)
            self._entries[view.node] = (self.version, view)
            if view.state == DEAD:
                self._dead[view.node] = None
        while len(self._dead) > DEAD_MAX:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self._forgotten_version = max(self._forgotten_version, self._entries.pop(oldest)[0])

    def since(self, epoch: int, version: int) -> list[View]:
        """Return what a subscriber lacks who has seen this version; nothing if he lacks nothing."""
        if epoch != self.epoch or version > self.version or version < self._forgotten_version:
            living = [view for _, view in self._entries.values() if view.state != DEAD]
            return self._in_pieces(living, snapshot=True)
        if version == self.version:
            return []
        news: list[NodeView] = []
        for changed_in, view in reversed(self._entries.values()):
            if changed_in <= version:
                break
            news.append(view)
        news.reverse()
        return self._in_pieces(news, snapshot=False)

    def _in_pieces(self, nodes: list[NodeView], *, snapshot: bool) -> list[View]:
        # All pieces but the last leave the version where it was, so that a break between them is made up for.
        starts = range(0, len(nodes), NODES_PER_VIEW_MAX) or (0,)
        pieces = [tuple(nodes[start : start + NODES_PER_VIEW_MAX]) for start in starts]
        out = [View(self.epoch, 0, snapshot and n == 0, piece) for n, piece in enumerate(pieces)]
        out[-1] = out[-1]._replace(version=self.version)
        return out

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        versions = [version for version, _ in self._entries.values()]
        assert versions == sorted(set(versions)) and (not versions or versions[-1] <= self.version)
        assert {i for i, (_, view) in self._entries.items() if view.state == DEAD} == set(self._dead)
        assert len(self._dead) <= DEAD_MAX


class Change(NamedTuple):
    """A node looks different; one of the two is None if it was not known, or is gone."""

    before: NodeView | None
    after: NodeView | None

    @property
    def died(self) -> bool:
        """Tell whether the node is dead now, and was not before."""
        was_alive = self.before is not None and self.before.state != DEAD
        return was_alive and (self.after is None or self.after.state == DEAD)


class ViewFollower:
    """A node's side. Pure."""

    def __init__(self) -> None:
        self.epoch = 0
        self.version = 0
        #: Index to view, of all that live.
        self.nodes: dict[int, NodeView] = {}
        #: In a snapshot of several pieces: who has not been in one yet.
        self._unseen: dict[int, None] | None = None

    def apply(self, view: View) -> list[Change]:
        """Take in a view; return what has changed."""
        if view.snapshot:
            self._unseen = dict.fromkeys(self.nodes)
        out: list[Change] = []
        for seen in view.nodes:
            if self._unseen is not None:
                self._unseen.pop(seen.node, None)
            before = self.nodes.get(seen.node)
            if before == seen or (before is None and seen.state == DEAD):
                continue
            if seen.state == DEAD:
                del self.nodes[seen.node]
            else:
                self.nodes[seen.node] = seen
            out.append(Change(before, seen))
        if view.version:
            for index in self._unseen or ():
                out.append(Change(self.nodes.pop(index), None))
            self._unseen = None
            self.epoch, self.version = view.epoch, view.version
        return out
