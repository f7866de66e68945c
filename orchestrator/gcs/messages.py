"""What nodes and the Global Control Store say to each other, as plain values.

Each class mirrors the protobuf message of the same name in `orchestrator/rpc/protos/gcs.proto`. The tables,
the node and the simulation know only these; gRPC begins in `server` and `client`.

A *request* has one answer. Whatever the network and the head do, it takes effect once: the asker numbers its
requests and repeats one until it is answered, and the head remembers answers until it hears that they arrived
(`answered`). What comes down a session unasked is an *event*; commands among them are repeated after each
registration until they are confirmed by a request, so whoever carries them out must accept a repetition.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.common.resources import ResourceSet

# ---------------------------------------------------------------- a node, upwards


class NodeSpec(NamedTuple):
    """What a node says of itself."""

    #: 16 hexadecimal digits, random; also the common name of its certificate.
    node_id: str
    hostname: str
    #: Where it serves what: name of the service to `host:port`.
    services: dict[str, str]
    total: ResourceSet
    labels: dict[str, str]
    is_head: bool = False


class Register(NamedTuple):
    """The first message of a session. `node` (the index) and `cluster_id` are 0 and "" the first time."""

    spec: NodeSpec
    node: int = 0
    cluster_id: str = ""
    #: The newest view that the node has: what is older need not be sent again.
    seen_epoch: int = 0
    seen_version: int = 0


class Pending(NamedTuple):
    """Demands of a node that wait: `copies` times `resources`."""

    resources: ResourceSet
    copies: int
    cause: str = ""
    #: Where it has to be: JSON, as `placement_to_message` makes it; "" for anywhere.
    placement: str = ""


class Heartbeat(NamedTuple):
    """A sign of life, and what has changed. `status` is opaque JSON of the node's, for dashboards."""

    available: ResourceSet
    pending: tuple[Pending, ...] = ()
    status: str = ""


class Leaving(NamedTuple):
    """The node ends by itself."""

    reason: str


FromNode = Register | Heartbeat | Leaving

# ---------------------------------------------------------------- to a node: events


class Registered(NamedTuple):
    """The node belongs to the cluster, under this index for its whole life."""

    node: int
    cluster_id: str
    head_index: int


class MustLeave(NamedTuple):
    """The node does not belong to the cluster (any more): it must end all its processes."""

    reason: str


class NodeView(NamedTuple):
    """A node as others see it."""

    node: int
    node_id: str
    hostname: str
    services: dict[str, str]
    total: ResourceSet
    available: ResourceSet
    labels: dict[str, str]
    is_head: bool
    #: ALIVE, SUSPECT or DEAD.
    state: str
    draining: bool = False
    #: Why it is dead, suspected, or drained.
    cause: str = ""
    pending: tuple[Pending, ...] = ()
    status: str = ""


class View(NamedTuple):
    """Changes of the cluster since the last view, or, as a snapshot, all that live."""

    epoch: int
    version: int
    snapshot: bool
    nodes: tuple[NodeView, ...]


class DrainNode(NamedTuple):
    """Take no new work, finish what runs within `grace_s` seconds, and leave."""

    reason: str
    grace_s: float


class Bundle(NamedTuple):
    """One bundle of a placement group, by its index there."""

    bundle: int
    resources: ResourceSet


class PrepareBundles(NamedTuple):
    """Reserve these bundles, or say that it cannot be: `BundlesPrepared` or `BundlesRefused`."""

    group: str
    attempt: int
    bundles: tuple[Bundle, ...]


class CommitBundles(NamedTuple):
    """What was prepared may be used: `BundlesCommitted`."""

    group: str
    attempt: int


class ReleaseBundles(NamedTuple):
    """End what runs in the bundles of this attempt, and free them: `BundlesReleased`, if only of none."""

    group: str
    attempt: int
    reason: str = ""


class GroupChanged(NamedTuple):
    """News of a placement group that this node created or watches. `nodes` has an index for each bundle."""

    group: str
    state: str
    cause: str = ""
    nodes: tuple[int, ...] = ()


class EndJob(NamedTuple):
    """End all that belongs to a job on this node: `JobEnded`."""

    job: str
    reason: str


ToNode = (
    Registered
    | MustLeave
    | View
    | DrainNode
    | PrepareBundles
    | CommitBundles
    | ReleaseBundles
    | GroupChanged
    | EndJob
)

# ---------------------------------------------------------------- of the link itself, to the node


class Connected(NamedTuple):
    """The session with the head stands (again)."""


class Disconnected(NamedTuple):
    """The session with the head is gone; requests wait. `cause` says why, for people."""

    cause: str


class Explain(NamedTuple):
    """Something waits for long; to be shown to whoever looks after the node."""

    text: str


LinkEvent = ToNode | Connected | Disconnected | Explain
