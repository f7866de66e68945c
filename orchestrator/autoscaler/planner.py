"""Which nodes to start: the demand packed into what is there, what is coming, and what may be started.

How it works
============
Bins are nodes: those that run, with what is free on them, and those on their way, with all they will have.
Demand is put into them, large shapes first, each into the fullest bin that takes it. For what is left new
bins are opened, one type at a time: the type of which the demand fills most, so that no GPU machine is
started for a task that needs a CPU; between equals the higher priority, then the smaller machine.

Before all that come the nodes that are to be there anyhow (`min_workers`), and `request_resources`, which is
packed into nodes as if they were empty: it says what the cluster is to have, not what is free.

A placement group counts only if all its bundles find a place; else what it took is given back.

Limits are those of the type, those of the whole, and the speed: of nodes that are started for pending
demand only so many may be on their way at a time. Nodes above the limits, or above what is wanted, are none
of this file's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.autoscaler.config import LAUNCHES_MIN, AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Group, Shape
from orchestrator.common.resources import ResourceSet

#: Of one shape, more than this many at once are not looked at: the next plan goes on.
COUNT_MAX = 100_000


class Existing(NamedTuple):
    """A node that is there or on its way."""

    #: Whatever names it for the caller.
    key: str
    node_type: str
    total: ResourceSet
    free: ResourceSet
    labels: Mapping[str, str] = {}
    #: It counts against the limits of the autoscaler, which has started it.
    is_ours: bool = True
    #: It does not run yet.
    is_coming: bool = False
    #: It leaves: it counts against the limits, and takes nothing.
    is_leaving: bool = False


class Plan(NamedTuple):
    """What to do."""

    #: Nodes to start, by type.
    launch: dict[str, int]
    #: Nodes that `request_resources` needs: they stay, however idle.
    kept: frozenset[str]
    #: Demand that no type of node can ever serve, for people.
    impossible: tuple[str, ...]
    #: Demand that only the limits stand against, for people.
    limited: tuple[str, ...]


class _Bin:
    __slots__ = ("free", "key", "labels", "node_type", "total")

    def __init__(
        self, key: str, node_type: str, total: ResourceSet, free: Mapping[str, int], labels: Mapping[str, str]
    ) -> None:
        self.key = key
        self.node_type = node_type
        self.total = total
        self.free = dict(free)
        self.labels = labels

    def room(self, shape: Shape) -> int:
        """Return how many of a shape fit."""
        resources, free = shape.resources, self.free
        most = COUNT_MAX
        for name in resources:
            units = free.get(name, 0) // resources[name]
            if units <= 0:
                return 0
            most = min(most, units)
        return most if shape.admits(self.labels) else 0

    def take(self, resources: ResourceSet, count: int) -> None:
        for name in resources:
            self.free[name] -= count * resources[name]


def plan(config: AutoscalerConfig, nodes: Iterable[Existing], demand: Demand) -> Plan:
    """Return which nodes to start, given what is there and what is wanted."""
    return _Planner(config, list(nodes)).plan(demand)


class _Planner:
    def __init__(self, config: AutoscalerConfig, nodes: list[Existing]) -> None:
        self._config = config
        self._nodes = nodes
        ours = [node for node in nodes if node.is_ours]
        self._counts = Counter(node.node_type for node in ours)
        self._leaving = Counter(node.node_type for node in ours if node.is_leaving)
        self._launch: Counter[str] = Counter()
        self._impossible: dict[str, None] = {}
        self._limited: dict[str, None] = {}
        coming = sum(node.is_coming for node in ours)
        running = len(ours) - coming
        self._speed_left = max(LAUNCHES_MIN, int(config.upscaling_speed * running)) - coming

    def plan(self, demand: Demand) -> Plan:
        self._to_minimum()
        kept = self._for_requests(demand.requested)
        used = self._launch.copy()
        bins = [
            _Bin(one.key, one.node_type, one.total, _units(one.free), one.labels)
            for one in self._nodes
            if not one.is_leaving
        ]
        bins += [self._new_bin(name) for name, n in used.items() for _ in range(n)]
        for group in demand.groups:
            self._for_group(group, bins)
        for shape, count in sorted(demand.pending, key=lambda one: -_size(one[0].resources)):
            left = _fill(bins, shape, min(count, COUNT_MAX))
            self._open(bins, shape, left)
        return Plan(
            {name: n for name, n in self._launch.items() if n},
            frozenset(kept),
            tuple(self._impossible),
            tuple(self._limited),
        )

    # ------------------------------------------------------------ what is to be there anyhow

    def _to_minimum(self) -> None:
        for one in self._config.node_types.values():
            while self._staying(one.name) < one.min_workers and self._may(one):
                self._start(one)
        types = sorted(
            self._config.node_types.values(), key=lambda one: (-one.priority, _size(one.resources), one.name)
        )
        for one in types:
            while self._staying() < self._config.min_workers and self._may(one):
                self._start(one)

    def _staying(self, name: str | None = None) -> int:
        counts = self._counts - self._leaving + self._launch
        return sum(counts.values()) if name is None else counts[name]

    def _for_requests(self, requested: tuple[tuple[Shape, int], ...]) -> set[str]:
        if not requested:
            return set()
        bins = [
            _Bin(one.key, one.node_type, one.total, _units(one.total), one.labels)
            for one in self._nodes
            if not one.is_leaving
        ]
        bins += [self._new_bin(name) for name, n in self._launch.items() for _ in range(n)]
        speed, self._speed_left = self._speed_left, COUNT_MAX
        for shape, count in sorted(requested, key=lambda one: -_size(one[0].resources)):
            left = _fill(bins, shape, count)
            self._open(bins, shape, left)
        self._speed_left = speed
        return {one.key for one in bins if one.key and one.free != _units(one.total)}

    # ------------------------------------------------------------ groups

    def _for_group(self, group: Group, bins: list[_Bin]) -> None:
        """Put a group into the bins, opening new ones; if it can't be, leave everything as it was."""
        bins_count, launch, speed_left = len(bins), self._launch.copy(), self._speed_left
        taken: list[tuple[_Bin, ResourceSet]] = []
        if not self._place_group(group, bins, taken):
            for one, resources in taken:
                one.take(resources, -1)
            del bins[bins_count:]
            self._launch, self._speed_left = launch, speed_left

    def _place_group(self, group: Group, bins: list[_Bin], taken: list[tuple[_Bin, ResourceSet]]) -> bool:
        if group.strategy == "STRICT_PACK":
            total = ResourceSet()
            for bundle in group.bundles:
                total = total.add(bundle.resources)
            selectors = {bundle.selectors for bundle in group.bundles} - {()}
            if len(selectors) > 1:
                self._impossible["a STRICT_PACK placement group whose bundles want different labels"] = None
                return False
            shape = Shape(total, selectors.pop() if selectors else ())
            return not _fill(bins, shape, 1) or self._open(bins, shape, 1) == 0
        spread = group.strategy in ("SPREAD", "STRICT_SPREAD")
        used: set[int] = set()
        for bundle in sorted(group.bundles, key=lambda one: -_size(one.resources)):
            fitting = [place for place, one in enumerate(bins) if one.room(bundle)]
            fresh = [place for place in fitting if place not in used]
            if spread and not fresh and self._open(bins, bundle, 1, fill=False) == 0:
                fresh = [len(bins) - 1]
            if group.strategy == "STRICT_SPREAD" and not fresh:
                return False
            if not spread and not fitting and self._open(bins, bundle, 1, fill=False) == 0:
                fitting = [len(bins) - 1]
            among = fresh if spread and fresh else fitting
            if not among:
                return False
            place = min(among, key=lambda place: (place not in used, _spare(bins[place], bundle.resources)))
            bins[place].take(bundle.resources, 1)
            taken.append((bins[place], bundle.resources))
            used.add(place)
        return True

    # ------------------------------------------------------------ new nodes

    def _open(self, bins: list[_Bin], shape: Shape, count: int, *, fill: bool = True) -> int:
        """Open bins until this many of a shape have a place; return how many have none."""
        if not count:
            return 0
        able = [one for one in self._config.node_types.values() if _capacity(one, shape)]
        if not able:
            self._impossible[self._why_impossible(shape)] = None
            return count
        while count:
            allowed = [one for one in able if self._may(one)]
            if not allowed:
                limits = ", ".join(f"{one.name} {one.max_workers}" for one in able)
                text = f"{count} x {shape}: at most {self._config.max_workers} nodes are allowed ({limits})"
                self._limited[text] = None
                return count
            if self._speed_left <= 0:
                return count
            best = max(allowed, key=lambda one: self._score(one, shape, count))
            capacity = _capacity(best, shape)
            # As long as it is filled completely, nothing about the choice changes.
            for _ in range(min(max(1, count // capacity), self._left(best), self._speed_left)):
                self._start(best)
                self._speed_left -= 1
                opened = self._new_bin(best.name)
                bins.append(opened)
                n = min(count, capacity)
                if fill:
                    opened.take(shape.resources, n)
                count -= n
        return 0

    def _score(self, one: NodeType, shape: Shape, count: int) -> tuple[float, int, float, str]:
        """Return how well a type serves a shape: what part of all its resources would be used."""
        n = min(count, _capacity(one, shape))
        used = [min(1.0, n * shape.resources[name] / one.resources[name]) for name in one.resources]
        return sum(used) / len(used), one.priority, -_size(one.resources), one.name

    def _left(self, one: NodeType) -> int:
        """Return how many more nodes of a type the limits allow."""
        of_type = one.max_workers - self._counts[one.name] - self._launch[one.name]
        return min(of_type, self._config.max_workers - self._counts.total() - self._launch.total())

    def _may(self, one: NodeType) -> bool:
        return self._left(one) > 0

    def _start(self, one: NodeType) -> None:
        self._launch[one.name] += 1

    def _new_bin(self, name: str) -> _Bin:
        one = self._config.node_types[name]
        return _Bin("", name, one.resources, _units(one.resources), one.labels)

    def _why_impossible(self, shape: Shape) -> str:
        types = [one for one in self._config.node_types.values() if shape.admits(one.labels)]
        if not types:
            return f"{shape}: no type of node has such labels"
        have = "; ".join(f"{one.name} has {one.resources.within(shape.resources)}" for one in types[:5])
        return f"{shape}: no type of node has that ({have})"


def _fill(bins: list[_Bin], shape: Shape, count: int) -> int:
    """Put as many of a shape as fit into the bins, the fullest first; return how many are left."""
    fitting = [(one, n) for one in bins if (n := one.room(shape))]
    fitting.sort(key=lambda pair: _spare(pair[0], shape.resources))
    for one, n in fitting:
        if not count:
            break
        n = min(n, count)
        one.take(shape.resources, n)
        count -= n
    return count


def _capacity(one: NodeType, shape: Shape) -> int:
    if not shape.admits(one.labels):
        return 0
    return min((one.resources[name] // shape.resources[name] for name in shape.resources), default=COUNT_MAX)


def _units(resources: ResourceSet) -> dict[str, int]:
    return {name: resources[name] for name in resources}


def _spare(one: _Bin, resources: ResourceSet) -> float:
    """Return what is left in a bin, with kinds that were not asked for counting as waste."""
    wasted = sum(1 for name, units in one.free.items() if units and not resources[name])
    return wasted * 1e6 + sum(one.free[name] / resources[name] for name in resources)


def _size(resources: ResourceSet) -> float:
    """Return a number by which large shapes come first: kinds count more than amounts, as they are rarer."""
    return 1e9 * len(list(resources)) + sum(resources[name] for name in resources)
