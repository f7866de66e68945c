"""On which nodes the bundles of a placement group are reserved.

=============  =======================================================================================
strategy       where
=============  =======================================================================================
PACK           on as few nodes as can be found quickly
STRICT_PACK    all on one node
SPREAD         each on a node of its own, as far as there are enough
STRICT_SPREAD  each on a node of its own
=============  =======================================================================================

Packing is bin packing, so "few" is what first fit by decreasing size finds: one node that takes everything,
else the node that takes most of the largest bundles that are left. Spreading is a matching of bundles to
nodes, which is solved exactly: a bundle that fits n nodes, of n bundles, can always be placed last, so n
candidates each are enough, however many nodes there are.

Nothing is promised here. The nodes that are chosen reserve, or refuse because their devices are cut
otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.feasibility import needs_accelerator
from orchestrator.scheduling.cluster.view import ACCELERATED, ClusterView, Mask, Selector

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class Refusal(NamedTuple):
    """Why no nodes were chosen."""

    #: For people; it begins with "its bundles" or "its bundle".
    cause: str
    #: Whether the nodes that are there could not even do it if they were empty.
    never: bool = False


def choose(
    bundles: Sequence[ResourceSet],
    strategy: str,
    view: ClusterView,
    selectors: Sequence[Selector] = (),
    occupied: Collection[int] = (),
) -> list[int] | Refusal:
    """Choose a node for each bundle.

    Args:
        bundles: what each of them needs; at least one.
        strategy: one of `STRATEGIES`.
        view: what is known of the nodes.
        selectors: conditions on the labels of each bundle's node; none for bundles beyond its length.
        occupied: nodes that hold other bundles of the group, which is being repaired: to be avoided by
        spreading,
            and preferred by packing.

    Returns:
        The number of a node for each bundle, or why there are none.

    Raises:
        ValueError: no bundles, or no such strategy.
    """
    if not bundles:
        raise ValueError("a placement group has at least one bundle")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    now = _Plan(bundles, view, selectors, occupied, empty=False).choose(strategy)
    if now is not None:
        return [view.index_at(row) for row in now]
    plan = _Plan(bundles, view, selectors, occupied, empty=True)
    if plan.choose(strategy) is not None:
        needs = ", ".join(map(str, bundles[:8])) + (", ..." if len(bundles) > 8 else "")
        return Refusal(f"its bundles need {needs} ({strategy}), and there is no room for that now")
    return Refusal(plan.objection(strategy), never=True)


class _Plan:
    """One attempt: what is free of the resources in question, less what was placed."""

    def __init__(
        self,
        bundles: Sequence[ResourceSet],
        view: ClusterView,
        selectors: Sequence[Selector],
        occupied: Collection[int],
        *,
        empty: bool,
    ) -> None:
        self._bundles = bundles
        self._view = view
        names = {name for bundle in bundles for name in bundle}
        columns = view.columns_of(names)
        used = view.rows_used
        self._left = {
            name: (columns[name].total if empty else columns[name].free)[:used].copy()
            if name in columns
            else np.zeros(used, np.int64)
            for name in names
        }
        everywhere = view.open_rows()
        self._allowed = [
            view.matching(selectors[index], everywhere) if index < len(selectors) else everywhere
            for index in range(len(bundles))
        ]
        #: Smaller is better: full nodes when packing, and nodes with accelerators last.
        self._levels = view.levels().astype(np.int64)
        self._accelerated = self._levels >= ACCELERATED
        rows = {row for node in occupied if (row := view.row_of(node)) is not None}
        self._occupied = np.zeros(used, np.bool_)
        self._occupied[list(rows)] = True
        #: Large bundles first: by what part of the largest node they need.
        largest = {name: max(int(column.total[:used].max(initial=1)), 1) for name, column in columns.items()}
        sizes = [sum(b[name] / largest.get(name, 1) for name in b) for b in bundles]
        self._order = sorted(range(len(bundles)), key=lambda index: -sizes[index])

    def choose(self, strategy: str) -> list[int] | None:
        """Return a row for each bundle; None if none were found."""
        if strategy == "STRICT_PACK":
            return self._on_one()
        if strategy == "PACK":
            return (self._on_one() if not self._occupied.any() else None) or self._on_few()
        matched = self._on_distinct()
        return matched if matched is not None or strategy == "STRICT_SPREAD" else self._on_many()

    def objection(self, strategy: str) -> str:
        """Return why even empty nodes could not do it."""
        for index, bundle in enumerate(self._bundles):
            if not self._fitting(index).any():
                where = " whose labels match" if not self._allowed[index].all() else ""
                return (
                    f"its bundle {index} needs {bundle}, and no node{where} has that; "
                    f"the most of each on any node: {self._most(index, bundle)}"
                )
        count = int(self._view.open_rows().sum())
        if strategy == "STRICT_PACK":
            total = _sum(self._bundles)
            return f"its bundles need {total} on one node (STRICT_PACK), and none of {count} has that"
        if strategy == "STRICT_SPREAD":
            spare = f", of which {int(self._occupied.sum())} are in use" if self._occupied.any() else ""
            return (
                f"its {len(self._bundles)} bundles need a node each (STRICT_SPREAD), and the {count} nodes"
                f"{spare} cannot provide that"
            )
        return f"its bundles need {_sum(self._bundles)} in total, and {count} nodes cannot provide that"

    # ------------------------------------------------------------ the strategies

    def _on_one(self) -> list[int] | None:
        mask = self._allowed[0]
        for allowed in self._allowed[1:]:
            if allowed is not mask:
                mask = mask & allowed
        if self._occupied.any():
            mask = mask & self._occupied
        total = _sum(self._bundles)
        mask = self._has_room(total, mask)
        if not mask.any():
            return None
        return [self._fullest(mask, total)] * len(self._bundles)

    def _on_few(self) -> list[int] | None:
        rows = [-1] * len(self._bundles)
        waiting = list(self._order)
        for row in np.flatnonzero(self._occupied).tolist():
            waiting = self._fill(row, waiting, rows)
        while waiting:
            first = waiting[0]
            bundle = self._bundles[first]
            mask = self._fitting(first)
            if not mask.any():
                return None
            alike = sum(self._bundles[index] == bundle for index in waiting)
            counts = np.minimum(self._counts(bundle), alike)
            most = mask & (counts == counts[mask].max())
            waiting = self._fill(self._fullest(most, bundle), waiting, rows)
        return rows

    def _on_many(self) -> list[int] | None:
        """Place each bundle where fewest of the group are, then where most is free."""
        rows = [-1] * len(self._bundles)
        here = self._occupied.astype(np.int64)
        for index in self._order:
            mask = self._fitting(index)
            if not mask.any():
                return None
            bundle = self._bundles[index]
            mask = mask & (here == here[mask].min())
            row = rows[index] = self._emptiest(mask, bundle)
            here[row] += 1
            self._take(row, bundle)
        return rows

    def _on_distinct(self) -> list[int] | None:
        count = len(self._bundles)
        candidates: list[list[int]] = [[] for _ in self._bundles]
        listed: dict[tuple[ResourceSet, int], list[int]] = {}
        for index, bundle in enumerate(self._bundles):
            key = (bundle, id(self._allowed[index]))
            if key not in listed:
                mask = self._fitting(index) & ~self._occupied
                listed[key] = self._by_emptiness(mask, bundle, count)
            candidates[index] = listed[key]
        taken: dict[int, int] = {}
        # Those with the least choice first: the others then seldom have to move.
        for index in sorted(range(count), key=lambda index: len(candidates[index])):
            if not _match(index, candidates, taken):
                return None
        rows = [-1] * count
        for row, index in taken.items():
            rows[index] = row
        return rows

    # ------------------------------------------------------------ small things

    def _has_room(self, resources: ResourceSet, among: Mask) -> Mask:
        mask = among
        for name in resources:
            mask = mask & (self._left[name] >= resources[name])
        return mask

    def _fitting(self, index: int) -> Mask:
        return self._has_room(self._bundles[index], self._allowed[index])

    def _counts(self, bundle: ResourceSet) -> NDArray[np.int64]:
        """Return how many such bundles would fit into each row."""
        counts = np.full(len(self._levels), len(self._bundles), np.int64)
        for name in bundle:
            counts = np.minimum(counts, self._left[name] // bundle[name])
        return counts

    def _fill(self, row: int, waiting: list[int], rows: list[int]) -> list[int]:
        """Place as many bundles as fit on a row; return the others."""
        others = []
        free = {name: int(left[row]) for name, left in self._left.items()}
        for index in waiting:
            bundle = self._bundles[index]
            if self._allowed[index][row] and all(free.get(name, 0) >= bundle[name] for name in bundle):
                rows[index] = row
                self._take(row, bundle)
                for name in bundle:
                    free[name] -= bundle[name]
            else:
                others.append(index)
        return others

    def _take(self, row: int, bundle: ResourceSet) -> None:
        for name in bundle:
            self._left[name][row] -= bundle[name]

    def _spare(self, bundle: ResourceSet) -> NDArray[np.float64]:
        """Return how much is left on each row, as multiples of a bundle."""
        spare = np.zeros(len(self._levels))
        for name in bundle:
            spare += self._left[name] / bundle[name]
        return spare

    def _fullest(self, mask: Mask, bundle: ResourceSet) -> int:
        cost = self._spare(bundle)
        if not needs_accelerator(bundle):
            cost = cost + self._accelerated * 1e12
        return int(np.where(mask, cost, np.inf).argmin())

    def _emptiest(self, mask: Mask, bundle: ResourceSet) -> int:
        return self._by_emptiness(mask, bundle, 1)[0]

    def _by_emptiness(self, mask: Mask, bundle: ResourceSet, count: int) -> list[int]:
        rows = np.flatnonzero(mask)
        cost = -self._spare(bundle)[rows]
        if not needs_accelerator(bundle):
            cost = cost + self._accelerated[rows] * 1e12
        if len(rows) > count:
            best = np.argpartition(cost, count - 1)[:count]
            rows, cost = rows[best], cost[best]
        return [int(row) for row in rows[np.argsort(cost, kind="stable")]]

    def _most(self, index: int, bundle: ResourceSet) -> ResourceSet:
        allowed = self._allowed[index]
        return ResourceSet({name: int(self._left[name][allowed].max(initial=0)) for name in bundle})


def _match(first: int, candidates: list[list[int]], taken: dict[int, int]) -> bool:
    """Give a bundle a row of its own, moving others if need be (augmenting paths, breadth first)."""
    came_from: dict[int, int] = {}
    queue = [first]
    for index in queue:
        for row in candidates[index]:
            if row in came_from:
                continue
            came_from[row] = index
            holder = taken.get(row)
            if holder is not None:
                queue.append(holder)
                continue
            # Walk back: each bundle on the path moves to the row it was reached by.
            while True:
                index = came_from[row]
                before = next((r for r, i in taken.items() if i == index), None)
                taken[row] = index
                if before is None:
                    return True
                row = before
    return False


def _sum(bundles: Sequence[ResourceSet]) -> ResourceSet:
    units: dict[str, int] = {}
    for bundle in bundles:
        for name in bundle:
            units[name] = units.get(name, 0) + bundle[name]
    return ResourceSet(units)
