"""What the lease router and the lender are told, and what they ask for.

Clients are named by their address in the store of their node, nodes by the number that the cluster gave them.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.common.scheduling_class import SchedulingClass

ClassKey = int | str

# ---------------------------------------------------------------- events of the router


class Demand(NamedTuple):
    """A client of this node wants `want` more workers of a class: an absolute number, 0 cancels."""

    client: int
    class_key: ClassKey
    scheduling: SchedulingClass
    want: int
    #: The node that has most of what its tasks will read; 0 if that doesn't matter.
    near: int = 0
    #: The job that it is for.
    job: str = ""


class Granted(NamedTuple):
    """A node, this one or another, has lent a worker to a client."""

    client: int
    class_key: ClassKey
    node: int


class Refused(NamedTuple):
    """Of the ask with this serial, a node keeps `left` workers that it may still grant, and no others.

    It is the answer to each ask, also when nothing is refused, and is repeated as long as something is kept.
    """

    client: int
    class_key: ClassKey
    node: int
    serial: int
    left: int = 0


class Failed(NamedTuple):
    """A node can't serve what was asked for: its runtime environment cannot be made, or the like."""

    client: int
    class_key: ClassKey
    node: int
    #: One of the verdicts of `scheduling.events`.
    verdict: str
    cause: str


class ViewChanged(NamedTuple):
    """The view of the cluster has had reports."""


class NodeDied(NamedTuple):
    """A node is not in the cluster any more; nothing will come from it."""

    node: int


class GroupPlaced(NamedTuple):
    """The bundles of a placement group lie on these nodes, one for each bundle; 0 for nowhere at present."""

    group: str
    nodes: tuple[int, ...]


class GroupGone(NamedTuple):
    """A placement group was removed."""

    group: str


class ClientGone(NamedTuple):
    """A client is dead, or wants nothing more."""

    client: int


class Tick(NamedTuple):
    """Time has passed. Wanted at least at `deadline_s`."""


Event = (
    Demand | Granted | Refused | Failed | ViewChanged | NodeDied | GroupPlaced | GroupGone | ClientGone | Tick
)

# ---------------------------------------------------------------- instructions of the router


class AskNode(NamedTuple):
    """Tell a node how many workers of a class it may still grant to a client: an absolute number, 0 cancels.

    That is for the node's `Lender`, also if the node is this one.
    """

    node: int
    client: int
    class_key: ClassKey
    scheduling: SchedulingClass
    want: int
    #: Grants of that node for this client and class that have arrived: those under way count against `want`.
    seen: int = 0
    #: Grows with each ask. The answer repeats it.
    serial: int = 0
    #: Whether it may wait there for room; otherwise what finds none is to be refused at once.
    patient: bool = False
    #: The job that it is for: jobs have equal shares, on each node.
    job: str = ""
    #: Serial of the ask since which grants are counted.
    since: int = 0


class Infeasible(NamedTuple):
    """This demand can never be met in this cluster; it has been dropped."""

    client: int
    class_key: ClassKey
    #: One of the verdicts of `scheduling.events`.
    verdict: str
    #: For people; it begins with "it".
    cause: str


class Explain(NamedTuple):
    """Tell a client why it still waits."""

    client: int
    class_key: ClassKey
    #: It goes on from the name of what waits: "has waited ...", "waits for ...".
    text: str


class Complain(NamedTuple):
    """Something made no sense and was dropped, or had to be given up; write it down."""

    text: str


Instruction = AskNode | Infeasible | Explain | Complain
