"""Requests of nodes and what the Global Control Store answers: plain values, as in `messages`."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs.messages import NodeView

# ---------------------------------------------------------------- answers


class Done(NamedTuple):
    """It is done, and stored. `total`: how many were, where that may be several."""

    total: int = 1


class Refused(NamedTuple):
    """It was not done. `code` is for programs (`CODES`), `text` for people."""

    code: str
    text: str


#: taken: somebody else has the name; unknown: there is no such thing; invalid: the request makes no sense;
#: dead: the asking node is not of the cluster; too_large: over a bound; unsupported: not by this head.
CODES = ("taken", "unknown", "invalid", "dead", "too_large", "unsupported")


class Nodes(NamedTuple):
    """Nodes by index."""

    nodes: tuple[NodeView, ...]


class Job(NamedTuple):
    """A driver's job. Times are seconds since 1970 by the head's clock; 0 for not yet."""

    job: str
    node: int
    namespace: str
    entrypoint: str = ""
    #: RUNNING, ENDING or ENDED.
    state: str = "RUNNING"
    reason: str = ""
    started_at_s: float = 0.0
    ended_at_s: float = 0.0


class Jobs(NamedTuple):
    """Jobs, the oldest first."""

    jobs: tuple[Job, ...]


class Name(NamedTuple):
    """A name and who has it."""

    #: actor, object or group.
    kind: str
    namespace: str
    name: str
    id: str
    #: Index of the node that answers for it.
    home: int
    #: Whatever a finder needs: a handle. Opaque here.
    blob: bytes = b""
    #: The job that it ends with, unless it is detached.
    job: str = ""
    detached: bool = False


class Names(NamedTuple):
    """Names in order. Their blobs are left out."""

    names: tuple[Name, ...]


class LabelSelector(NamedTuple):
    """Conditions on the labels of one bundle's node, as `common.labels` has them."""

    conditions: dict[str, str]


class GroupSpec(NamedTuple):
    """A placement group as its creator asks for it."""

    group: str
    name: str
    namespace: str
    #: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.
    strategy: str
    bundles: tuple[ResourceSet, ...]
    job: str = ""
    detached: bool = False
    #: One for each bundle, or fewer.
    selectors: tuple[LabelSelector, ...] = ()


class Group(NamedTuple):
    """A placement group and where it stands. `nodes` has an index for each bundle, 0 where it is nowhere."""

    spec: GroupSpec
    state: str
    cause: str = ""
    nodes: tuple[int, ...] = ()


class Groups(NamedTuple):
    """Placement groups, the oldest first."""

    groups: tuple[Group, ...]


class Value(NamedTuple):
    """A value of the key-value table; None if there is none."""

    value: bytes | None = None


class Keys(NamedTuple):
    """Keys in order."""

    keys: tuple[bytes, ...]


class Info(NamedTuple):
    """The cluster at a glance. `counts`: what the head counts, by name."""

    cluster_id: str
    head_index: int
    nodes_alive: int
    storage: str
    counts: dict[str, int]


Answer = Done | Refused | Nodes | Jobs | Name | Names | Groups | Value | Keys | Info

# ---------------------------------------------------------------- requests


class ListNodes(NamedTuple):
    """→ Nodes."""

    dead_too: bool = False


class RequestDrain(NamedTuple):
    """Have a node finish and leave → Done."""

    node: int
    reason: str
    grace_s: float


class DeclareDead(NamedTuple):
    """Somebody knows for sure that a node is gone (its supervisor has reaped it) → Done."""

    node: int
    reason: str


class StartJob(NamedTuple):
    """A driver attached to the asking node → Done."""

    job: str
    namespace: str
    entrypoint: str = ""


class FinishJob(NamedTuple):
    """The driver is gone → Done; all nodes get `EndJob`."""

    job: str
    reason: str


class JobEnded(NamedTuple):
    """The asking node has nothing of the job any more → Done."""

    job: str


class ListJobs(NamedTuple):
    """→ Jobs."""


class ClaimName(NamedTuple):
    """Take a name, at once or not at all → Done, or Refused("taken") with the holder's id in the text."""

    claim: Name


class FindName(NamedTuple):
    """→ Name, or Refused("unknown")."""

    kind: str
    namespace: str
    name: str


class FreeName(NamedTuple):
    """Give a name back, with an id only if that has it; an id alone: all that it has → Done(total)."""

    kind: str
    namespace: str = ""
    name: str = ""
    id: str = ""


class ListNames(NamedTuple):
    """→ Names of one namespace, or of all with None."""

    kind: str
    namespace: str | None = None


class CreateGroup(NamedTuple):
    """→ Done; `GroupChanged` follows. Refused("taken") if the name is."""

    spec: GroupSpec


class RemoveGroup(NamedTuple):
    """→ Done(total)."""

    group: str


class WatchGroup(NamedTuple):
    """→ Groups with the one as it is; `GroupChanged` with each change from now on."""

    group: str


class ListGroups(NamedTuple):
    """→ Groups."""


class BundlesPrepared(NamedTuple):
    """→ Done."""

    group: str
    attempt: int


class BundlesRefused(NamedTuple):
    """There is no room (any more) → Done."""

    group: str
    attempt: int
    cause: str


class BundlesCommitted(NamedTuple):
    """→ Done."""

    group: str
    attempt: int


class BundlesReleased(NamedTuple):
    """→ Done."""

    group: str
    attempt: int


class PutValue(NamedTuple):
    """→ Done(1) if it was written, Done(0) if there is one and `overwrite` is false."""

    namespace: str
    key: bytes
    value: bytes
    overwrite: bool = True


class GetValue(NamedTuple):
    """→ Value."""

    namespace: str
    key: bytes


class DeleteValue(NamedTuple):
    """Delete a key, or all that begin with it → Done(total)."""

    namespace: str
    key: bytes
    prefix: bool = False


class ListKeys(NamedTuple):
    """→ Keys that begin with `prefix`."""

    namespace: str
    prefix: bytes = b""


class ClusterInfo(NamedTuple):
    """→ Info."""


Request = (
    ListNodes
    | RequestDrain
    | DeclareDead
    | StartJob
    | FinishJob
    | JobEnded
    | ListJobs
    | ClaimName
    | FindName
    | FreeName
    | ListNames
    | CreateGroup
    | RemoveGroup
    | WatchGroup
    | ListGroups
    | BundlesPrepared
    | BundlesRefused
    | BundlesCommitted
    | BundlesReleased
    | PutValue
    | GetValue
    | DeleteValue
    | ListKeys
    | ClusterInfo
)

#: Requests that may be answered again at any time: they change nothing, or nothing when repeated.
READS = (
    ListNodes,
    ListJobs,
    FindName,
    ListNames,
    WatchGroup,
    ListGroups,
    GetValue,
    ListKeys,
    ClusterInfo,
)


class Call(NamedTuple):
    """A request on its way: who asks, under which number, and below which number all answers have arrived."""

    node: int
    number: int
    answered_below: int
    request: Request
