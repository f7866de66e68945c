"""Candidates for one kind of request, so that all nodes need not be asked for each decision.

A question to all nodes costs some 30 µs at 10 000 nodes. So it is asked for many decisions at a time: its
answer is a *short list*, kept for each kind of request. Whatever is taken from a list is looked at once
more, so a stale list never leads to a node without room. It may miss one that has become free since: until
enough nodes have (`STALE_SHIFT`), or it is used up. An empty list is the answer "no room anywhere", until
there is a gain anywhere.

Several nodes decide at the same time, each by its own view. If all had the same order, all would send to
the same node. So a list begins at a random place among the first fifth of the candidates, and chance
decides between those that are about equally full.
"""

from __future__ import annotations

import heapq
from random import Random

import numpy as np

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.view import (
    ACCELERATED,
    LEVELS,
    PACK_THRESHOLD,
    ClusterView,
    Levels,
    Mask,
)

#: Candidates of a hybrid list: enough to share the cost of the question out, few enough to be sorted in 50
#: µs.
LISTED_MAX = 128
#: The part of the candidates among which chance decides.
TOP_PART = 0.2
#: A list is stale when as many gains have been heard of as there are nodes, shifted by this.
STALE_SHIFT = 6
#: Levels that count as one, a thirty-second of the way from the threshold to full.
COARSE = LEVELS // 32
#: Candidates without room that a spread list passes over before it is made anew.
MISSES_MAX = 8

_NONE = 65535


class _ShortList:
    """What both kinds of lists have in common."""

    def __init__(self, view: ClusterView) -> None:
        self._gains = view.gains
        self._epoch = view.epoch
        #: Rows with room that are not in the list.
        self.has_more = False

    def is_stale(self, view: ClusterView) -> bool:
        """Tell whether the list should be made anew before it is asked."""
        return view.epoch != self._epoch or view.gains - self._gains > len(view) >> STALE_SHIFT

    def is_exact(self, view: ClusterView) -> bool:
        """Tell whether a row that is not in the list has no room for certain."""
        return not self.has_more and view.gains == self._gains and view.epoch == self._epoch


class HybridList(_ShortList):
    """Rows with room, the next one to be used first: a heap whose keys are checked when they come up.

    Args:
        view: all nodes.
        fitting: the rows with room.
        accelerated: whether accelerators are asked for.
        rng: decides between equals.
    """

    def __init__(self, view: ClusterView, fitting: Mask, accelerated: bool, rng: Random) -> None:
        super().__init__(view)
        self._accelerated = accelerated
        self._rng = rng
        #: (coarse level, chance, row).
        self._heap: list[tuple[int, float, int]] = []
        #: A row above this coarse level goes: there may be better ones that are not in the list.
        self._bound = _NONE
        levels = view.levels()
        if accelerated:
            levels = levels & np.uint16(ACCELERATED - 1)
        levels = np.where(fitting, levels, np.uint16(_NONE))
        lowest = int(levels.min(initial=_NONE))
        if lowest == _NONE:
            return
        if lowest % ACCELERATED == 0:
            self._pack(view, levels, lowest, int(np.count_nonzero(fitting)))
        else:
            self._by_level(levels)
        heapq.heapify(self._heap)

    def _pack(self, view: ClusterView, levels: Levels, lowest: int, count: int) -> None:
        """List rows that are not half full, in their order, from a random place among the first."""
        rows = np.flatnonzero(levels == lowest)
        first = self._rng.randrange(min(max(1, int(TOP_PART * len(view))), len(rows)))
        listed = rows[first : first + LISTED_MAX].tolist()
        key = _coarse(lowest)
        self._heap = [(key, place, row) for place, row in enumerate(listed)]
        self.has_more = len(listed) < count
        if self.has_more:
            self._bound = key

    def _by_level(self, levels: Levels) -> None:
        """List the least used rows."""
        rows = np.flatnonzero(levels != _NONE)
        if len(rows) > LISTED_MAX:
            self.has_more = True
            rows = rows[np.argpartition(levels[rows], LISTED_MAX)[:LISTED_MAX]]
        chance = self._rng.random
        found = zip(levels[rows].tolist(), rows.tolist(), strict=True)
        self._heap = [(_coarse(level), chance(), row) for level, row in found]
        if self.has_more:
            self._bound = max(self._heap)[0]

    def next(self, view: ClusterView, resources: ResourceSet, count: int) -> tuple[int, int]:
        """Return how many of `count` to take from which row; (0, 0) when the list is used up."""
        heap = self._heap
        while heap:
            key, chance, row = heap[0]
            level = view.level(row)
            if self._accelerated:
                level %= ACCELERATED
            now = _coarse(level)
            if now != key:
                if now > self._bound:
                    heapq.heappop(heap)
                else:
                    heapq.heapreplace(heap, (now, chance, row))
                continue
            room = view.room(row, resources) if view.is_open(row) else 0
            if room:
                return min(room, count, view.until(row, resources, _share_above(level))), row
            heapq.heappop(heap)
        return 0, 0


class SpreadList(_ShortList):
    """All rows with room, to be served in turn.

    Args:
        view: all nodes.
        fitting: the rows with room.
    """

    def __init__(self, view: ClusterView, fitting: Mask) -> None:
        super().__init__(view)
        self._rows = np.flatnonzero(fitting)
        #: Turns until those that were left out are looked at again.
        self._left = len(self._rows)
        self._misses = 0

    def is_stale(self, view: ClusterView) -> bool:
        """Tell whether the list should be made anew before it is asked."""
        used_up = len(self._rows) > 0 and (self._left <= 0 or self._misses > MISSES_MAX)
        return used_up or super().is_stale(view)

    def next(self, view: ClusterView, resources: ResourceSet, turn: int) -> int | None:
        """Return the row after the one that had the last turn; None when no row in the list has room."""
        rows = self._rows
        place = int(rows.searchsorted(turn, "right"))
        for step in range(len(rows)):
            row = rows.item((place + step) % len(rows))
            self._left -= 1
            if view.is_open(row) and view.room(row, resources):
                return row
            self._misses += 1
            if self._misses > MISSES_MAX:
                self.has_more = True
                break
        return None


def _coarse(level: int) -> int:
    """Return a level in larger steps; 0 stays apart."""
    base, kind = level % ACCELERATED, level - level % ACCELERATED
    return kind + (base and 1 + base // COARSE)


def _share_above(level: int) -> float:
    """Return the share of a resource at which the next coarse level begins."""
    base = level % ACCELERATED
    if not base:
        return PACK_THRESHOLD
    above = (base // COARSE + 1) * COARSE
    return PACK_THRESHOLD + (1 - PACK_THRESHOLD) * above / LEVELS
