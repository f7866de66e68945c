"""The placement groups of the session: their names, their states, and who waits for them.

=========  ==================  ==========  =====================================================
state      event               next        what happens
=========  ==================  ==========  =====================================================
(none)     create              PENDING     the scheduler is asked to reserve all bundles at once
(none)     create, impossible  INFEASIBLE  whoever waits hears why
PENDING    reserved            CREATED     whoever waits hears it
PENDING    infeasible          INFEASIBLE  whoever waits hears why
PENDING    remove              REMOVED     the reservation is withdrawn
CREATED    remove              REMOVED     the scheduler ends what runs in it
=========  ==================  ==========  =====================================================

What the bundles hold is the scheduler's business (`local_scheduler`); here is what users see. A group lasts
until it is removed, its job is over unless it is detached, or the session ends. Its name is free again once
it is removed. The removed are remembered, the last `GONE_MAX` of them, so that whoever comes late hears what
happened.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.actor_table import Tell

#: Removed and infeasible groups that are still known.
GONE_MAX = 10_000


class GroupState(enum.Enum):
    """Where a placement group is in its life. The values are what `placement_group_table` shows."""

    #: Waits for room.
    PENDING = "PENDING"
    #: All its bundles are reserved.
    CREATED = "CREATED"
    #: It can never be.
    INFEASIBLE = "INFEASIBLE"
    #: Removed by its user.
    REMOVED = "REMOVED"


GONE = (GroupState.INFEASIBLE, GroupState.REMOVED)


class GroupSpec(NamedTuple):
    """What the creator asks for."""

    group: str
    name: str
    namespace: str
    strategy: str
    bundles: tuple[ResourceSet, ...]
    #: Whose it is, and whether it outlives that job.
    job: str = ""
    detached: bool = False


# ---------------------------------------------------------------- instructions


class RequestBundles(NamedTuple):
    """Have the scheduler reserve the bundles of a group."""

    client: int
    spec: GroupSpec


class ReleaseBundles(NamedTuple):
    """Have the scheduler end what runs in a group, and free its bundles."""

    group: str


Instruction = RequestBundles | ReleaseBundles | Tell


class _Record:
    __slots__ = ("cause", "spec", "state", "waiters")

    def __init__(self, spec: GroupSpec) -> None:
        self.spec = spec
        self.state = GroupState.PENDING
        #: Why it is infeasible.
        self.cause = ""
        #: (client, number of the request) of those who wait for the end of PENDING.
        self.waiters: list[tuple[int, int]] = []


class GroupTable:
    """Pure: every method returns what to do."""

    def __init__(self, *, nodes_count: int = 1) -> None:
        self._nodes_count = nodes_count
        self._records: dict[str, _Record] = {}
        #: Names of groups that are not gone.
        self._names: dict[tuple[str, str], str] = {}
        self._gone: dict[str, None] = {}

    def create(self, client: int, spec: GroupSpec, request: int) -> list[Instruction]:
        """Enter a new group. `request` is answered if the group has a name, which may be taken."""
        answer = {"op": "reply", "req": request, "group": spec.group}
        if spec.name and (spec.namespace, spec.name) in self._names:
            return [Tell(client, {**answer, "error": "exists"})]
        record = self._records[spec.group] = _Record(spec)
        out: list[Instruction] = []
        if spec.name:
            self._names[spec.namespace, spec.name] = spec.group
            out.append(Tell(client, answer))
        if spec.strategy == "STRICT_SPREAD" and len(spec.bundles) > self._nodes_count:
            nodes = "1 node" if self._nodes_count == 1 else f"{self._nodes_count} nodes"
            cause = (
                f"STRICT_SPREAD wants a node for each of its {len(spec.bundles)} bundles: there is {nodes}"
            )
            return out + self._settle(record, GroupState.INFEASIBLE, cause)
        return [*out, RequestBundles(client, spec)]

    def reserved(self, group: str) -> list[Instruction]:
        """The scheduler has reserved all bundles."""
        record = self._records.get(group)
        if record is None or record.state is not GroupState.PENDING:
            return []
        return self._settle(record, GroupState.CREATED)

    def infeasible(self, group: str, cause: str) -> list[Instruction]:
        """The scheduler will never be able to reserve them."""
        record = self._records.get(group)
        if record is None or record.state is not GroupState.PENDING:
            return []
        return self._settle(record, GroupState.INFEASIBLE, cause)

    def remove(self, group: str) -> list[Instruction]:
        """A user wants a group no more."""
        record = self._records.get(group)
        if record is None or record.state in GONE:
            return []
        return [ReleaseBundles(group), *self._settle(record, GroupState.REMOVED)]

    def wait(self, client: int, group: str, request: int) -> list[Instruction]:
        """A client wants to hear when a group is no longer PENDING."""
        record = self._records.get(group)
        if record is None:
            return [Tell(client, _answer(request, GroupState.REMOVED, "this session does not know it"))]
        if record.state is GroupState.PENDING:
            record.waiters.append((client, request))
            return []
        return [Tell(client, _answer(request, record.state, record.cause))]

    def find(self, client: int, name: str, namespace: str, request: int) -> list[Instruction]:
        """A client asks for a group by name."""
        group = self._names.get((namespace, name))
        answer: dict[str, Any] = {"op": "reply", "req": request, "found": group is not None}
        if group is not None:
            answer |= _describe(self._records[group])
        return [Tell(client, answer)]

    def job_over(self, job: str) -> list[Instruction]:
        """The driver of a job is gone: its groups are removed, unless they are detached."""
        out: list[Instruction] = []
        for group, record in list(self._records.items()):
            if record.spec.job == job and not record.spec.detached:
                out += self.remove(group)
        return out

    def job_of(self, group: str) -> str:
        """Return whose group this is."""
        record = self._records.get(group)
        return record.spec.job if record is not None else ""

    def client_died(self, client: int) -> None:
        """A client that may have waited is gone."""
        for record in self._records.values():
            if record.waiters:
                record.waiters = [waiter for waiter in record.waiters if waiter[0] != client]

    def listing(self, group: str | None = None) -> list[dict[str, Any]]:
        """Return a description of one group, or of all that are known, the living first."""
        if group is not None:
            return [_describe(self._records[group])] if group in self._records else []
        records = sorted(self._records.values(), key=lambda record: record.state in GONE)
        return [_describe(record) for record in records]

    def _settle(self, record: _Record, state: GroupState, cause: str = "") -> list[Instruction]:
        record.state, record.cause = state, cause
        waiters, record.waiters = record.waiters, []
        if state in GONE:
            spec = record.spec
            if spec.name:
                del self._names[spec.namespace, spec.name]
            self._gone[spec.group] = None
            if len(self._gone) > GONE_MAX:
                oldest = next(iter(self._gone))
                del self._gone[oldest], self._records[oldest]
        return [Tell(client, _answer(request, state, cause)) for client, request in waiters]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for group, record in self._records.items():
            assert record.spec.group == group
            assert (record.state in GONE) == (group in self._gone), group
            assert not record.waiters or record.state is GroupState.PENDING, group
            named = record.spec.name and record.state not in GONE
            assert not named or self._names[record.spec.namespace, record.spec.name] == group, group
        assert len(self._gone) <= GONE_MAX


def _answer(request: int, state: GroupState, cause: str) -> dict[str, Any]:
    return {"op": "reply", "req": request, "state": state.value, "cause": cause}


def _describe(record: _Record) -> dict[str, Any]:
    spec = record.spec
    return {
        "group": spec.group,
        "name": spec.name,
        "namespace": spec.namespace,
        "strategy": spec.strategy,
        "bundles": [bundle.to_floats() for bundle in spec.bundles],
        "state": record.state.value,
        "cause": record.cause,
        "detached": spec.detached,
        "job": spec.job,
    }
