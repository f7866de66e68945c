"""What to do next, from what is wanted, what the provider has, and what the cluster sees. Pure.

How it works
============
Each step looks at everything anew (`Observation`) and moves each instance at most one state on
(`instances.py`); nothing depends on having seen a change happen. So a step that is repeated, skipped, or
taken by an autoscaler that has just been started does the same.

*Written before done.* New instances are written down (`Persist`) before the provider is asked for them; the
caller carries out instructions in order, and stops at the first that fails. Whoever starts anew from what
was written knows of every machine that may exist. What the provider shows with the name of this cluster and
without a record is taken over; what has another name, or none, is a stranger's and is left alone.

*Errors of the provider.* A launch that failed is not tried again at once: for its type of node there is a
pause that doubles with each failure in a row. If the provider cannot be asked what it has, nothing is
decided that depends on it.

*Down.* A node goes when it has been idle for its time and nothing needs it: not a minimum, not
`request_resources`, not demand that waits. It is drained first, and its machine is taken back when it is
drained. If there are more nodes than are allowed, the least busy are drained without waiting for idleness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.autoscaler.config import AutoscalerConfig
from orchestrator.autoscaler.demand import Demand
from orchestrator.autoscaler.instances import (
    COMING,
    DEAD,
    LEAVING,
    LIVING,
    Change,
    Instance,
    Instances,
    State,
)
from orchestrator.autoscaler.planner import Existing, Plan, plan
from orchestrator.common.resources import ResourceSet

#: A request of which the provider shows nothing is given up. Clouds take minutes to say no.
REQUEST_TIMEOUT_S = 300.0
#: A machine that does not run is given up.
ALLOCATE_TIMEOUT_S = 900.0
#: One that runs and does not join is given up.
JOIN_TIMEOUT_S = 300.0
#: After this the operator is told of a node that is still not drained. Whatever runs there goes on.
DRAIN_SAY_S = 600.0
#: How often the provider is asked again to take a machine back, or the cluster to drain a node.
REPEAT_S = 30.0
#: A node that has left the cluster may be restarting its connection: that long its machine is left alone.
GONE_GRACE_S = 30.0
#: The pause after a failed launch, and what it grows to.
PAUSE_FIRST_S, PAUSE_MAX_S = 5.0, 300.0
#: The same thing is said again after this time.
SAY_AGAIN_S = 60.0


class ProviderInstance(NamedTuple):
    """What the provider shows of a machine."""

    provider_id: str
    #: The request that it was made for, and the cluster; "" for strangers.
    request: str
    cluster: str
    node_type: str
    is_running: bool


class ClusterNode(NamedTuple):
    """What the cluster shows of a node."""

    node: str
    #: The request that its instance was made for (label `INSTANCE_LABEL`); "" if nobody's.
    request: str
    total: ResourceSet
    free: ResourceSet
    labels: Mapping[str, str]
    #: How long it has run nothing: no lease, no actor.
    idle_s: float
    #: It takes nothing new.
    is_draining: bool = False
    #: It has been drained: no lease, no actor, and no object of which it has the only copy.
    is_drained: bool = False


class Observation(NamedTuple):
    """Everything at one moment."""

    #: None: the provider could not be asked.
    provider: Sequence[ProviderInstance] | None
    #: None: the cluster could not be asked.
    cluster: Sequence[ClusterNode] | None
    demand: Demand = Demand()


# ---------------------------------------------------------------- instructions


class Persist(NamedTuple):
    """Write the records down; what follows must not be done before."""

    records: list[dict[str, Any]]


class Launch(NamedTuple):
    """Have the provider make an instance. If it refuses, `Reconciler.launch_failed`."""

    request: str
    node_type: str


class Terminate(NamedTuple):
    """Have the provider take a machine back."""

    provider_id: str
    cause: str


class Drain(NamedTuple):
    """Have a node take nothing new, finish what it does, and move its objects away."""

    node: str
    cause: str


class Say(NamedTuple):
    """Tell the operator."""

    text: str


Instruction = Persist | Launch | Terminate | Drain | Say

#: The label by which a node names the request that its instance was made for.
INSTANCE_LABEL = "autoscaler/instance"


class Reconciler:
    """See the module's text.

    Args:
        config: what is allowed; may be replaced between steps.
        new_request: returns a name that no request had before.
        records: what was last persisted.
    """

    def __init__(
        self,
        config: AutoscalerConfig,
        new_request: Callable[[], str],
        records: Sequence[Mapping[str, Any]] = (),
        now_s: float = 0.0,
    ) -> None:
        self.config = config
        self.instances = Instances.from_records(list(records), now_s)
        self._new_request = new_request
        self._now_s = now_s
        #: Type of node to (failures in a row, not before).
        self._pauses: dict[str, tuple[int, float]] = {}
        #: Nodes that are not in the cluster any more, since when.
        self._gone_s: dict[str, float] = {}
        self._said_s: dict[str, float] = {}
        #: Requests of the autoscaler before, which may have been killed before it had asked the provider.
        self._unsure = [one.request for one in self.instances.in_state(State.REQUESTED)]
        #: The provider has been seen once: until then records may be missing.
        self._has_seen = False
        self._out: list[Instruction] = []
        #: The last plan, for `status`.
        self.plan = Plan({}, frozenset(), (), ())

    def launch_failed(self, request: str, cause: str, now_s: float) -> None:
        """Take into account that the provider has refused a launch."""
        one = self.instances.get(request)
        if one is None or one.state is not State.REQUESTED:
            return
        self.instances.change(one, Change.GIVE_UP, now_s, cause)
        failures = self._pauses.get(one.node_type, (0, 0.0))[0] + 1
        pause_s = min(PAUSE_FIRST_S * 2 ** min(failures - 1, 20), PAUSE_MAX_S)
        self._pauses[one.node_type] = (failures, now_s + pause_s)

    def step(self, seen: Observation, now_s: float) -> list[Instruction]:
        """Return what to do, in this order."""
        self._now_s = now_s
        out = self._out = []
        nodes = None
        if seen.cluster is not None:
            nodes = {node.request: node for node in seen.cluster if node.request}
        if seen.provider is not None:
            self._match_provider(seen.provider, nodes)
            self._ask_again()
            self._has_seen = True
        if nodes is not None:
            self._match_cluster(nodes)
        self._check_times()
        if self._has_seen and seen.provider is not None and seen.cluster is not None:
            self._decide(seen.cluster, seen.demand)
        # First what is written down, then what is done.
        if self.instances.is_changed:
            out.insert(0, Persist(self.instances.to_records()))
        return out

    # ------------------------------------------------------------ what has become of them

    def _match_provider(
        self, machines: Sequence[ProviderInstance], nodes: Mapping[str, ClusterNode] | None
    ) -> None:
        ours = {
            one.request: one for one in machines if one.cluster == self.config.cluster_name and one.request
        }
        for request, machine in ours.items():
            one = self.instances.get(request)
            if one is None:
                one = self.instances.add(request, machine.node_type, self._now_s)
                one.cause = "was found at the provider"
            if one.state is State.TERMINATED:
                if self._now_s - one.asked_s >= REPEAT_S:  # until then what is shown may be old
                    one.asked_s = self._now_s
                    self._out.append(Terminate(machine.provider_id, "it was gone, and is here again"))
                continue
            one.provider_id = machine.provider_id
            if one.state is State.REQUESTED:
                self._change(one, Change.SEEN)
                self._pauses.pop(one.node_type, None)
            elif one.state is State.FAILED:
                self._end(one, "it came after it was given up")
            if one.state is State.ALLOCATED and machine.is_running:
                self._change(one, Change.RUNS)
        for one in self.instances.in_state(*LIVING):
            serves = nodes is None or one.request in nodes  # whatever the provider shows
            ends = one.state is State.TERMINATING
            if one.request not in ours and one.state is not State.REQUESTED and (ends or not serves):
                self._change(one, Change.GONE, "it is gone at the provider")

    def _ask_again(self) -> None:
        unsure, self._unsure = self._unsure, []
        for one in map(self.instances.get, unsure):
            # Of a type that is no more there it is given up after a while, as nothing will be seen of it.
            if one is not None and one.state is State.REQUESTED and one.node_type in self.config.node_types:
                self._out.append(Launch(one.request, one.node_type))

    def _match_cluster(self, nodes: Mapping[str, ClusterNode]) -> None:
        for one in self.instances.in_state(State.ALLOCATED, State.JOINING, State.RUNNING, State.DRAINING):
            node = nodes.get(one.request)
            if node is None:
                if one.state in (State.RUNNING, State.DRAINING):
                    since_s = self._gone_s.setdefault(one.request, self._now_s)
                    if one.state is State.DRAINING or self._now_s - since_s >= GONE_GRACE_S:
                        self._end(one, "it has left the cluster")
                continue
            self._gone_s.pop(one.request, None)
            one.node = node.node
            if one.state is State.ALLOCATED:
                self._change(one, Change.RUNS)
            if one.state is State.JOINING:
                self._change(one, Change.JOINED)
            if one.state is State.RUNNING and node.is_draining and self._now_s - one.since_s >= REPEAT_S:
                self._change(one, Change.DRAIN, "its operator drains it")
            if one.state is State.DRAINING:
                if node.is_drained:
                    self._end(one, one.cause)
                elif not node.is_draining and self._now_s - one.asked_s >= REPEAT_S:
                    one.asked_s = self._now_s
                    self._out.append(Drain(node.node, one.cause))
        for request in self._gone_s.keys() - {one.request for one in self.instances.in_state(State.RUNNING)}:
            del self._gone_s[request]

    def _check_times(self) -> None:
        for one in self.instances.in_state(*LIVING):
            waited_s = self._now_s - one.since_s
            if one.state is State.REQUESTED and waited_s >= REQUEST_TIMEOUT_S:
                self.launch_failed(one.request, "the provider shows nothing of it", self._now_s)
            elif one.state is State.ALLOCATED and waited_s >= ALLOCATE_TIMEOUT_S:
                self._end(one, f"it did not run after {ALLOCATE_TIMEOUT_S:g} s")
            elif one.state is State.JOINING and waited_s >= JOIN_TIMEOUT_S:
                self._end(one, f"it did not join the cluster in {JOIN_TIMEOUT_S:g} s")
            elif one.state is State.DRAINING and waited_s >= DRAIN_SAY_S:
                self._say(f"node {one.node} is not empty, though it takes nothing new for {DRAIN_SAY_S:g} s")
            elif one.state is State.TERMINATING and self._now_s - one.asked_s >= REPEAT_S:
                one.asked_s = self._now_s
                self._out.append(Terminate(one.provider_id, one.cause))

    # ------------------------------------------------------------ up and down

    def _decide(self, nodes: Sequence[ClusterNode], demand: Demand) -> None:
        found = self.plan = plan(self.config, self._existing(nodes), demand)
        for text in found.impossible:
            self._say(f"demand that no node can ever serve: {text}")
        for text in found.limited:
            self._say(f"demand that waits for a higher limit: {text}")
        for node_type, count in found.launch.items():
            failures, not_before_s = self._pauses.get(node_type, (0, 0.0))
            if self._now_s < not_before_s:
                continue
            # After failures one at a time, until one has come.
            for _ in range(min(count, 1) if failures else count):
                one = self.instances.add(self._new_request(), node_type, self._now_s)
                self._out.append(Launch(one.request, node_type))
        self._shrink(nodes, demand)

    def _existing(self, nodes: Sequence[ClusterNode]) -> list[Existing]:
        by_request = {node.request: node for node in nodes if node.request}
        found = []
        for one in self.instances.in_state(*LIVING):
            node = by_request.get(one.request)
            leaves = one.state in LEAVING or (node is not None and node.is_draining)
            kind = self.config.node_types.get(one.node_type)
            if node is not None:
                found.append(
                    Existing(
                        one.request, one.node_type, node.total, node.free, node.labels, True, False, leaves
                    )
                )
            elif kind is not None and one.state in COMING:
                total = kind.resources
                found.append(Existing(one.request, one.node_type, total, total, kind.labels, True, True))
            else:
                nothing = ResourceSet()
                found.append(Existing(one.request, one.node_type, nothing, nothing, {}, True, False, True))
        known = {one.request for one in self.instances.in_state(*LIVING)}
        for node in nodes:
            if node.request not in known:
                found.append(
                    Existing(
                        "", "", node.total, node.free, node.labels, is_ours=False, is_leaving=node.is_draining
                    )
                )
        return found

    def _shrink(self, nodes: Sequence[ClusterNode], demand: Demand) -> None:
        by_request = {node.request: node for node in nodes if node.request}
        staying = self.instances.in_state(State.RUNNING, *COMING)
        counts = Counter(one.node_type for one in staying)
        running = [
            (one, by_request[one.request])
            for one in self.instances.in_state(State.RUNNING)
            if one.request in by_request
        ]
        running.sort(key=lambda pair: (-pair[1].idle_s, pair[0].since_s))
        total = len(staying)
        for one, node in running:
            kind = self.config.node_types.get(one.node_type)
            too_many = (
                total > self.config.max_workers or kind is None or counts[one.node_type] > kind.max_workers
            )
            least = 0 if kind is None else kind.min_workers
            if not too_many:
                if node.idle_s < self.config.idle_timeout_of(one.node_type) or one.request in self.plan.kept:
                    continue
                if total <= self.config.min_workers or counts[one.node_type] <= least:
                    continue
                if self._is_needed(node, demand):
                    continue
            cause = "there are more nodes than allowed" if too_many else f"idle for {node.idle_s:.0f} s"
            self._change(one, Change.DRAIN, cause)
            self._out.append(Drain(node.node, cause))
            counts[one.node_type] -= 1
            total -= 1

    def _is_needed(self, node: ClusterNode, demand: Demand) -> bool:
        """Tell whether something waits that this node could run: it is about to have work."""
        shapes = [shape for shape, _ in demand.pending]
        shapes += [bundle for group in demand.groups for bundle in group.bundles]
        return any(shape.resources.fits(node.free) and shape.admits(node.labels) for shape in shapes)

    # ------------------------------------------------------------ small things

    def _change(self, one: Instance, change: Change, cause: str = "") -> None:
        self.instances.change(one, change, self._now_s, cause)

    def _end(self, one: Instance, cause: str) -> None:
        self._change(one, Change.END, cause)
        self._out.append(Terminate(one.provider_id, cause))

    def _say(self, text: str) -> None:
        if self._now_s - self._said_s.get(text, float("-inf")) >= SAY_AGAIN_S:
            self._said_s = {t: s for t, s in self._said_s.items() if self._now_s - s < SAY_AGAIN_S}
            self._said_s[text] = self._now_s
            self._out.append(Say(text))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for one in self.instances:
            assert one.state in (*LIVING, *DEAD), one
            assert one.provider_id or one.state in (State.REQUESTED, State.FAILED), one
            assert one.node or one.state not in (State.RUNNING, State.DRAINING), one
        ids = [one.provider_id for one in self.instances.in_state(*LIVING) if one.provider_id]
        assert len(ids) == len(set(ids)), ids
