"""One placement group as the head keeps it: its bundles, their places, and what nodes were last told.

The states and what moves a group between them are in `placement_groups`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from orchestrator.gcs.effects import Tell
from orchestrator.gcs.messages import Bundle, CommitBundles, GroupChanged, PrepareBundles, ReleaseBundles
from orchestrator.gcs.requests import Group, GroupSpec

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
BUNDLES_MAX = 10_000


class GroupState(enum.Enum):
    """Where a group is in its life. The values are what users see."""

    #: Its bundles are nowhere, or about to be.
    PENDING = "PENDING"
    #: All its bundles may be used.
    CREATED = "CREATED"
    #: It was CREATED, and some of its nodes died.
    RESCHEDULING = "RESCHEDULING"
    #: Its user, or the end of its job, has removed it.
    REMOVED = "REMOVED"
    #: No nodes can ever have it.
    INFEASIBLE = "INFEASIBLE"


GONE = (GroupState.REMOVED, GroupState.INFEASIBLE)


class PartState(enum.Enum):
    """What a node was last told about its part of an attempt."""

    ASKED = "ASKED"
    PREPARED = "PREPARED"
    COMMITTING = "COMMITTING"
    COMMITTED = "COMMITTED"
    RELEASING = "RELEASING"


#: States of parts whose attempt is not decided, and of those that hold bundles for good.
UNDECIDED = (PartState.ASKED, PartState.PREPARED)
HOLDING = (PartState.COMMITTING, PartState.COMMITTED)


class StoredPart(NamedTuple):
    """A part in the storage."""

    node: int
    attempt: int
    state: str
    bundles: tuple[int, ...]
    reason: str = ""


class StoredGroup(NamedTuple):
    """A group in the storage."""

    spec: GroupSpec
    number: int
    state: str
    cause: str
    attempt: int
    parts: tuple[StoredPart, ...]
    watchers: tuple[int, ...]


class Part:
    __slots__ = ("attempt", "bundles", "node", "reason", "state")

    def __init__(self, node: int, attempt: int, bundles: tuple[int, ...]) -> None:
        self.node = node
        self.attempt = attempt
        self.state = PartState.ASKED
        self.bundles = bundles
        #: Why it is released.
        self.reason = ""


class GroupRecord:
    __slots__ = (
        "attempt", "avoided", "cause", "deadline_s", "impossible_since_s", "number", "parts", "retry_s",
        "spec", "state", "tried_version", "waiting_since_s", "watchers",
    )  # fmt: skip

    def __init__(self, spec: GroupSpec, number: int) -> None:
        self.spec = spec
        #: The order in which groups came.
        self.number = number
        self.state = GroupState.PENDING
        #: Why it waits, or is gone.
        self.cause = ""
        #: The latest attempt; it is under way while one of its parts is ASKED or PREPARED.
        self.attempt = 0
        self.parts: dict[tuple[int, int], Part] = {}
        self.watchers: dict[int, None] = {}
        #: The cluster's version when nodes were last looked for in vain, and when that is to be repeated
        #: anyway.
        self.tried_version = -1
        self.retry_s = 0.0
        #: When the attempt under way is given up.
        self.deadline_s = 0.0
        self.impossible_since_s: float | None = None
        #: Since when there is no room for it, and nodes that did not make any when they were asked to.
        self.waiting_since_s: float | None = None
        self.avoided: set[int] = set()

    def is_under_way(self) -> bool:
        return any(part.state in UNDECIDED for part in self.parts.values())

    def holders(self) -> list[int]:
        """A node for each bundle; 0 where it lies nowhere for good."""
        nodes = [0] * len(self.spec.bundles)
        for part in self.parts.values():
            if part.state in HOLDING:
                for bundle in part.bundles:
                    nodes[bundle] = part.node
        return nodes


def is_open(part: Part) -> bool:
    return part.state in (PartState.ASKED, PartState.COMMITTING, PartState.RELEASING)


def command(record: GroupRecord, part: Part) -> Tell:
    """Return what a node has to be told about a part that is open."""
    group, spec = record.spec.group, record.spec
    if part.state is PartState.ASKED:
        bundles = tuple(Bundle(bundle, spec.bundles[bundle]) for bundle in part.bundles)
        return Tell(part.node, PrepareBundles(group, part.attempt, bundles))
    if part.state is PartState.COMMITTING:
        return Tell(part.node, CommitBundles(group, part.attempt))
    assert part.state is PartState.RELEASING
    return Tell(part.node, ReleaseBundles(group, part.attempt, part.reason))


def changed(record: GroupRecord) -> GroupChanged:
    return GroupChanged(record.spec.group, record.state.value, record.cause, tuple(record.holders()))


def describe(record: GroupRecord) -> Group:
    return Group(record.spec, record.state.value, record.cause, tuple(record.holders()))


def objection_to(spec: GroupSpec) -> str:
    if not spec.group or len(spec.group) > 64:
        return "a placement group has an id of at most 64 characters"
    if spec.strategy not in STRATEGIES:
        return f"the strategy is one of {', '.join(STRATEGIES)}, not {spec.strategy[:40]!r}"
    if not 0 < len(spec.bundles) <= BUNDLES_MAX:
        return f"a placement group has 1 to {BUNDLES_MAX} bundles, not {len(spec.bundles)}"
    if not all(spec.bundles) or any(bundle[name] < 0 for bundle in spec.bundles for name in bundle):
        return "a bundle asks for something, and for no negative quantity"
    if len(spec.selectors) > len(spec.bundles):
        return "there are more conditions on labels than bundles"
    return ""
