"""What is known of every node of the cluster: what it has, what is free, where it may be used.

How it works
============
Nodes are *reported*: each report is the whole truth about one node at one moment, and has a version, so
that one that was overtaken on its way changes nothing. Between two reports the view counts along with what
its holder does: units that were asked for and not answered are *promised*, those that were granted are
*spent*. Both count as taken at once, or a node would send everything it has to the one neighbour that was
idle a second ago. What is spent is in the next report, which replaces it; a promise is kept until it is
settled.

    free = free by the last report - spent since - promised

*Columns.* A resource is a column over all nodes, so that a question to all nodes is one pass over adjacent
numbers for each resource in question, whatever else the nodes have: 5 µs at 10 000 nodes. Labels are
columns of small codes in the same way. A node has a row; rows of nodes that left are used again.

*Levels.* The fullness of a node, by its most used resource, is kept as one small number of its own
(`level`), and is brought up to date with each change of the node: the policies sort by it.

*Counters.* `gains` grows whenever something may fit that did not before; `epoch` whenever another set of
nodes could ever serve something. Whoever remembers an answer remembers with it at which of these it was
true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.accelerators import VISIBLE_VARIABLES
from orchestrator.common.labels import parse_condition
from orchestrator.common.resources import ResourceSet

Mask = NDArray[np.bool_]
Levels = NDArray[np.uint16]
Selector = Iterable[tuple[str, str]]

#: Below this share of its most used resource a node is filled up before another is begun.
PACK_THRESHOLD = 0.5
#: Levels above the threshold: steps of half a thousandth. Level 0 is everything below it.
LEVELS = 1000
#: Added to the level of nodes with accelerators, for those who need none: they come last.
ACCELERATED = 1 << 14
#: Units that fit where nothing is asked for: as good as without limit.
UNLIMITED = 1 << 40
#: Rows that a view begins with.
ROWS_FIRST = 64


class NodeReport(NamedTuple):
    """All there is to say of a node at one moment."""

    #: The number that the cluster gave it, never used again.
    node: int
    #: The id that users see.
    node_id: str
    #: Grows with each report of this node.
    version: int
    total: ResourceSet
    available: ResourceSet
    labels: Mapping[str, str] = {}
    #: It is about to leave, and takes nothing new.
    draining: bool = False


class NodeType(NamedTuple):
    """Nodes that are not there and could be started, for the sake of a demand that waits."""

    name: str
    total: ResourceSet
    labels: Mapping[str, str] = {}


class Node:
    """A row of the view, as it was last reported."""

    __slots__ = ("promised", "report", "row", "spent")

    def __init__(self, row: int, report: NodeReport) -> None:
        self.row = row
        self.report = report
        #: Units asked for and not answered, by resource.
        self.promised: dict[str, int] = {}
        #: Units granted since the report, by resource.
        self.spent: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<node {self.report.node_id}>"


class Column:
    """One resource of all nodes, in units."""

    __slots__ = ("free", "total")

    def __init__(self, rows: int) -> None:
        self.total = np.zeros(rows, np.int64)
        #: What may be asked for now; below zero where more was lent than there is.
        self.free = np.zeros(rows, np.int64)

    def grow(self, rows: int) -> None:
        self.total, self.free = _grown(self.total, rows), _grown(self.free, rows)


class LabelColumn:
    """One label of all nodes: a code for each value, 0 where there is none."""

    __slots__ = ("codes", "values")

    def __init__(self, rows: int) -> None:
        self.codes = np.zeros(rows, np.int32)
        self.values: dict[str, int] = {}

    def set(self, row: int, value: str | None) -> None:
        self.codes[row] = 0 if value is None else self.values.setdefault(value, len(self.values) + 1)


class ClusterView:
    """See the module's text."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._by_id: dict[str, int] = {}
        #: Row to node; None where nobody is.
        self._rows: list[Node | None] = [None] * ROWS_FIRST
        self._free_rows = list(range(ROWS_FIRST - 1, -1, -1))
        #: Rows beyond this have never been used: nobody looks at them.
        self._rows_used = 0
        self._columns: dict[str, Column] = {}
        self._labels: dict[str, LabelColumn] = {}
        #: Rows of nodes that may get something new.
        self._open = np.zeros(ROWS_FIRST, np.bool_)
        self._levels = np.zeros(ROWS_FIRST, np.uint16)
        self._potential: tuple[NodeType, ...] = ()
        self.gains = 0
        self.epoch = 0

    # ------------------------------------------------------------ what is known

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, index: int) -> bool:
        return index in self._nodes

    def __iter__(self) -> Iterator[NodeReport]:
        """The last report of each node."""
        for node in self._nodes.values():
            yield node.report

    def get(self, index: int) -> NodeReport | None:
        """Return the last report of a node; None if it is not in the cluster."""
        node = self._nodes.get(index)
        return None if node is None else node.report

    def index_of(self, node_id: str) -> int | None:
        """Return the number of the node with this id; None if it is not in the cluster."""
        return self._by_id.get(node_id)

    def free(self, index: int) -> ResourceSet:
        """Return what may be asked of a node now.

        Raises:
            KeyError: it is not in the cluster.
        """
        node = self._nodes[index]
        names = {*node.report.total, *node.report.available}
        return ResourceSet({name: self._columns[name].free.item(node.row) for name in names})

    @property
    def potential(self) -> tuple[NodeType, ...]:
        """Nodes that could be started if they were needed."""
        return self._potential

    @potential.setter
    def potential(self, types: Sequence[NodeType]) -> None:
        self._potential = tuple(types)
        self.epoch += 1

    # ------------------------------------------------------------ what happens

    def report(self, report: NodeReport) -> bool:
        """Take a report into account; return False if a later one of this node is known."""
        node = self._nodes.get(report.node)
        if node is None:
            node = self._add(report)
        elif report.version <= node.report.version:
            return False
        else:
            before = node.report
            if (before.total, before.draining) != (report.total, report.draining):
                self.epoch += 1
            node.report = report
            if before.labels != report.labels:
                self._set_labels(node, before.labels)
        self._open[node.row] = not report.draining
        node.spent.clear()
        self._refresh(node)
        self.gains += 1
        return True

    def remove(self, index: int) -> None:
        """Forget a node that has left, if it is known."""
        node = self._nodes.pop(index, None)
        if node is None:
            return
        del self._by_id[node.report.node_id]
        row = node.row
        for column in self._columns.values():
            column.total[row] = column.free[row] = 0
        for labels in self._labels.values():
            labels.codes[row] = 0
        self._open[row] = False
        self._levels[row] = 0
        self._rows[row] = None
        self._free_rows.append(row)
        self.epoch += 1

    def promise(self, index: int, resources: ResourceSet, count: int) -> None:
        """Count this many times these resources of a node as asked for; a negative count takes that back."""
        node = self._nodes.get(index)
        if node is None:
            return
        for name in resources:
            units = node.promised.get(name, 0) + count * resources[name]
            if units:
                node.promised[name] = units
            else:
                node.promised.pop(name, None)
        self._take(node, resources, count)

    def settle(self, index: int, resources: ResourceSet, count: int) -> None:
        """Note that promised resources were granted: they count as taken until the next report."""
        node = self._nodes.get(index)
        if node is None:
            return
        for name in resources:
            node.spent[name] = node.spent.get(name, 0) + count * resources[name]
        # The same amount moves from the one account to the other: nothing changes in the columns.
        for name in resources:
            units = node.promised.get(name, 0) - count * resources[name]
            if units:
                node.promised[name] = units
            else:
                node.promised.pop(name, None)

    def exhaust(self, index: int, resources: ResourceSet) -> None:
        """Note that a node has no room for these resources, whatever it reported, until its next report."""
        node = self._nodes[index]
        count = self.room(node.row, resources)
        if count and resources:
            for name in resources:
                node.spent[name] = node.spent.get(name, 0) + count * resources[name]
            self._take(node, resources, count)

    def shortage(self, index: int, resources: ResourceSet) -> int:
        """Return how many times these resources were promised that the node has no room for."""
        node = self._nodes[index]
        short = 0
        for name in resources:
            short = max(short, -(self._columns[name].free.item(node.row) // resources[name]))
        return short

    def promised(self, index: int) -> dict[str, int]:
        """Return the units of resources that a node was asked for and has not answered."""
        return dict(self._nodes[index].promised)

    def forgive(self, index: int) -> None:
        """Let what is spent at a node count no longer: its report must have come in the meantime."""
        node = self._nodes.get(index)
        if node is not None and node.spent:
            node.spent.clear()
            self._refresh(node)
            self.gains += 1

    # ------------------------------------------------------------ questions to all nodes

    def open_rows(self) -> Mask:
        """Return which rows may get something new."""
        return self._open[: self._rows_used]

    def fitting(self, resources: ResourceSet, among: Mask) -> Mask:
        """Return which of these rows have room for these resources now."""
        mask = among
        for name in resources:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(self._rows_used, np.bool_)
            mask = mask & (column.free[: self._rows_used] >= resources[name])
        return mask

    def feasible(self, resources: ResourceSet, among: Mask) -> Mask:
        """Return which of these rows would have room for these resources if they were empty."""
        mask = among
        for name in resources:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(self._rows_used, np.bool_)
            mask = mask & (column.total[: self._rows_used] >= resources[name])
        return mask

    def matching(self, selector: Selector, among: Mask) -> Mask:
        """Return which of these rows have labels that meet every condition of a selector."""
        mask = among
        for key, condition in selector:
            negated, values = parse_condition(condition, key)
            labels = self._labels.get(key)
            hit = np.zeros(self._rows_used, np.bool_)
            if labels is not None:
                for code in filter(None, map(labels.values.get, values)):
                    hit |= labels.codes[: self._rows_used] == code
            mask = mask & (~hit if negated else hit)
        return mask

    def levels(self) -> Levels:
        """Return how full each row is: 0 below the threshold, more above; `ACCELERATED` added to some."""
        return self._levels[: self._rows_used]

    def columns_of(self, names: Iterable[str]) -> dict[str, Column]:
        """Return the columns of these resources, those that any node has."""
        return {name: self._columns[name] for name in names if name in self._columns}

    @property
    def rows_used(self) -> int:
        """The length of everything that has an entry for each row."""
        return self._rows_used

    # ------------------------------------------------------------ questions to one row

    def index_at(self, row: int) -> int:
        """Return the number of the node in a row."""
        node = self._rows[row]
        assert node is not None, row
        return node.report.node

    def row_of(self, index: int) -> int | None:
        """Return the row of a node; None if it is not in the cluster."""
        node = self._nodes.get(index)
        return None if node is None else node.row

    def is_open(self, row: int) -> bool:
        """Tell whether a row may get something new."""
        return self._open.item(row)

    def level(self, row: int) -> int:
        """Return how full a row is."""
        return self._levels.item(row)

    def room(self, row: int, resources: ResourceSet) -> int:
        """Return how many times these resources fit into a row now."""
        most = UNLIMITED
        for name in resources:
            column = self._columns.get(name)
            if column is None:
                return 0
            most = min(most, column.free.item(row) // resources[name])
        return max(most, 0)

    def capacity(self, row: int, resources: ResourceSet) -> int:
        """Return how many times these resources would fit into a row if it were empty."""
        most = UNLIMITED
        for name in resources:
            column = self._columns.get(name)
            if column is None:
                return 0
            most = min(most, column.total.item(row) // resources[name])
        return most

    def until(self, row: int, resources: ResourceSet, share: float) -> int:
        """Return how many times these resources are taken before this share of one of them is: 1 or more."""
        most = UNLIMITED
        for name in resources:
            column = self._columns[name]
            total = column.total.item(row)
            left = share * total - (total - column.free.item(row))
            most = min(most, -int(-left // resources[name]))
        return max(most, 1)

    # ------------------------------------------------------------ small things

    def _add(self, report: NodeReport) -> Node:
        if not self._free_rows:
            self._grow()
        row = self._free_rows.pop()
        self._rows_used = max(self._rows_used, row + 1)
        node = self._nodes[report.node] = self._rows[row] = Node(row, report)
        self._by_id[report.node_id] = report.node
        self._set_labels(node, {})
        self.epoch += 1
        return node

    def _grow(self) -> None:
        before = len(self._rows)
        rows = 2 * before
        self._rows += [None] * before
        self._free_rows += range(rows - 1, before - 1, -1)
        self._open, self._levels = _grown(self._open, rows), _grown(self._levels, rows)
        for column in self._columns.values():
            column.grow(rows)
        for labels in self._labels.values():
            labels.codes = _grown(labels.codes, rows)

    def _set_labels(self, node: Node, before: Mapping[str, str]) -> None:
        for key in {*before, *node.report.labels}:
            if key not in self._labels:
                self._labels[key] = LabelColumn(len(self._rows))
            self._labels[key].set(node.row, node.report.labels.get(key))
        self.epoch += 1

    def _refresh(self, node: Node) -> None:
        """Set the columns of a row from its report and what was counted since."""
        row, report = node.row, node.report
        names = {*report.total, *report.available, *node.promised}
        for name in names:
            if name not in self._columns:
                self._columns[name] = Column(len(self._rows))
        for name, column in self._columns.items():
            if name in names:
                column.total[row] = report.total[name]
                column.free[row] = (
                    report.available[name] - node.spent.get(name, 0) - node.promised.get(name, 0)
                )
            else:
                column.total[row] = column.free[row] = 0
        self._set_level(node)

    def _take(self, node: Node, resources: ResourceSet, count: int) -> None:
        row = node.row
        for name in resources:
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = Column(len(self._rows))
            column.free[row] -= count * resources[name]
        if count < 0:
            self.gains += 1
        self._set_level(node)

    def _set_level(self, node: Node) -> None:
        row, most = node.row, 0.0
        total = node.report.total
        for name in total:
            have = total[name]
            used = (have - self._columns[name].free.item(row)) / have
            if used > most:
                most = used
        level = _level(most)
        if any(total[name] for name in VISIBLE_VARIABLES):
            level += ACCELERATED
        self._levels[row] = level

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        assert len(self._free_rows) + len(self._nodes) == len(self._rows)
        assert {index: node.report.node_id for index, node in self._nodes.items()} == {
            index: node_id for node_id, index in self._by_id.items()
        }
        for index, node in self._nodes.items():
            assert node.report.node == index and self._rows[node.row] is node and node.row < self._rows_used
            for name, column in self._columns.items():
                free = node.report.available[name] - node.spent.get(name, 0) - node.promised.get(name, 0)
                assert column.free.item(node.row) == free, (node, name)
                assert column.total.item(node.row) == node.report.total[name], (node, name)
            assert all(node.promised.values()), node.promised
            assert self._open.item(node.row) == (not node.report.draining), node
        for row, one in enumerate(self._rows):
            assert one is not None or not self._open.item(row), row


def _level(share: float) -> int:
    """Return the level of a node of which this share is used."""
    if share < PACK_THRESHOLD:
        return 0
    return 1 + min(int((share - PACK_THRESHOLD) / (1 - PACK_THRESHOLD) * LEVELS), 2 * LEVELS)


def _grown(array: NDArray[Any], rows: int) -> NDArray[Any]:
    grown = np.zeros(rows, array.dtype)
    grown[: len(array)] = array
    return grown
