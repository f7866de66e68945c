"""On which nodes leases are asked for: pack, spread, affinity, labels, locality.

==========  ============================================================================================
placement   where
==========  ============================================================================================
none        on the node that has most of what the tasks will read, while it has room; else *hybrid*; if
            nobody has room, they wait with that node first
`Spread`    on one node after the other, as far as there is room
`OnNode`    there; if `soft` and it is gone or never can: as if nothing had been said
`WithLabels`  hybrid among the nodes that match the first selector that any fitting node matches
==========  ============================================================================================

*Hybrid.* The own node until half of its most used resource is taken; then the same with others, of which
one is filled at a time; when all are half full, the least used first. Nodes with accelerators come last for
those who need none. Deciders do not know of each other, so each takes its candidates in an order of its own
(`short_lists.py`).
"""

from __future__ import annotations

from random import Random

import numpy as np

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import OnNode, Placement, SchedulingClass, Spread
from orchestrator.scheduling.cluster.feasibility import feasible_rows, needs_accelerator
from orchestrator.scheduling.cluster.short_lists import HybridList, SpreadList
from orchestrator.scheduling.cluster.view import ACCELERATED, PACK_THRESHOLD, ClusterView, Mask

#: Kinds of requests of which lists are kept.
KINDS_MAX = 512

Key = tuple[ResourceSet, Placement | None]


class NodeChooser:
    """Chooses nodes for the leases that one node asks for, and promises them in its view.

    Args:
        view: what is known of the cluster; only `promise` is called.
        local: the number of the own node, or None.
        rng: what decides between equals.
    """

    def __init__(self, view: ClusterView, local: int | None, rng: Random) -> None:
        self._view = view
        self._local = local
        self._rng = rng
        #: The row that was last served in turn.
        self._turn = -1
        self._lists: dict[Key, HybridList | SpreadList] = {}
        #: The rows that can ever serve a kind of request, and the epoch in which that was true.
        self._feasible: dict[Key, tuple[int, Mask]] = {}

    def place(
        self,
        scheduling: SchedulingClass,
        count: int,
        near: int = 0,
    ) -> dict[int, int]:
        """Choose nodes that have room now for up to `count` leases, and promise it.

        Args:
            scheduling: what is asked for; anything but in a placement group.
            count: leases.
            near: the node to be taken first, as far as it has room; 0 if it doesn't matter.

        Returns:
            Leases by the number of the node; together fewer than `count` if there is no room for all.
        """
        resources, placement = scheduling.resources, scheduling.placement
        chosen: dict[int, int] = {}
        if near and placement is None:
            count -= self._take(chosen, self._view.row_of(near), resources, count)
        if isinstance(placement, OnNode):
            index = self._view.index_of(placement.node)
            row = None if index is None else self._view.row_of(index)
            if not placement.soft or (row is not None and self._can_ever(row, resources)):
                self._take(chosen, row, resources, count)
                return chosen
            placement = None
        if count and isinstance(placement, Spread):
            self._spread(chosen, (resources, placement), count)
        elif count:
            self._hybrid(chosen, (resources, placement), count)
        return chosen

    def feasible(self, scheduling: SchedulingClass) -> Mask:
        """Return the rows that could serve this if they were empty."""
        resources, placement = scheduling.resources, scheduling.placement
        key = (resources, placement)
        known = self._feasible.get(key)
        if known is not None and known[0] == self._view.epoch:
            return known[1]
        mask = feasible_rows(self._view, resources, placement)
        if len(self._feasible) >= KINDS_MAX:
            self._feasible.clear()
        self._feasible[key] = (self._view.epoch, mask)
        return mask

    def waiting_places(
        self, scheduling: SchedulingClass, count: int, nodes_max: int, near: int = 0
    ) -> dict[int, int]:
        """Return where up to `count` leases are to wait while no node has room. Nothing is promised.

        The node `near` comes first, then the own one; each gets as many as it could serve at once.
        """
        rows = np.flatnonzero(self.feasible(scheduling))
        if not len(rows):
            return {}
        start = int(np.searchsorted(rows, self._rng.randrange(self._view.rows_used)))
        order = np.roll(rows, -start)[:nodes_max].tolist()
        for first in (self._local, near):
            row = self._view.row_of(first) if first else None
            if row is not None and self.feasible(scheduling)[row]:
                order = [row, *(other for other in order if other != row)]
        places: dict[int, int] = {}
        for row in order:
            n = min(count, max(self._view.capacity(row, scheduling.resources), 1))
            places[self._view.index_at(row)] = n
            count -= n
            if not count:
                break
        return places

    # ------------------------------------------------------------ the two orders

    def _hybrid(self, chosen: dict[int, int], key: Key, count: int) -> None:
        resources, placement = key
        view, accelerated = self._view, needs_accelerator(resources)
        if placement is None and self._local is not None:
            local = view.row_of(self._local)
            if local is not None and (accelerated or view.level(local) < ACCELERATED or len(view) == 1):
                if view.level(local) % ACCELERATED == 0 and view.room(local, resources):
                    below = min(count, view.until(local, resources, PACK_THRESHOLD))
                    count -= self._take(chosen, local, resources, below)
        is_new = False
        while count:
            found = self._lists.get(key)
            if not isinstance(found, HybridList) or found.is_stale(view):
                found = HybridList(view, self._fitting(key), accelerated, self._rng)
                self._remember(key, found)
                is_new = True
            n, row = found.next(view, resources, count)
            if n:
                count -= self._take(chosen, row, resources, n)
                is_new = False
            elif is_new or found.is_exact(view):
                return
            else:
                del self._lists[key]

    def _spread(self, chosen: dict[int, int], key: Key, count: int) -> None:
        view, resources, is_new = self._view, key[0], False
        while count:
            found = self._lists.get(key)
            if not isinstance(found, SpreadList) or found.is_stale(view):
                found = SpreadList(view, self._fitting(key))
                self._remember(key, found)
                is_new = True
            row = found.next(view, resources, self._turn)
            if row is not None:
                self._turn = row
                count -= self._take(chosen, row, resources, 1)
                is_new = False
            elif is_new or found.is_exact(view):
                return
            else:
                del self._lists[key]

    # ------------------------------------------------------------ small things

    def _fitting(self, key: Key) -> Mask:
        """Return the rows that have room for such a request now."""
        return self._view.fitting(key[0], self.feasible(SchedulingClass(key[0], placement=key[1])))

    def _remember(self, key: Key, found: HybridList | SpreadList) -> None:
        if len(self._lists) >= KINDS_MAX:
            del self._lists[next(iter(self._lists))]
        self._lists[key] = found

    def _can_ever(self, row: int, resources: ResourceSet) -> bool:
        return self._view.is_open(row) and self._view.capacity(row, resources) > 0

    def _take(self, chosen: dict[int, int], row: int | None, resources: ResourceSet, count: int) -> int:
        """Promise as many as fit into a row, up to a count; return how many."""
        if row is None or not count or not self._view.is_open(row):
            return 0
        n = min(self._view.room(row, resources), count)
        if n:
            index = self._view.index_at(row)
            chosen[index] = chosen.get(index, 0) + n
            self._view.promise(index, resources, n)
        return n
