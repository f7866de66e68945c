"""The cluster as the autoscaler sees it in the head's own process: its tables, read and asked directly."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.autoscaler import wishes
from orchestrator.autoscaler.config import ConfigError
from orchestrator.autoscaler.demand import Demand, Group, Shape, demand_of
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL, ClusterNode
from orchestrator.common.scheduling_class import SchedulingClass, placement_from_message, selector_of
from orchestrator.gcs import requests
from orchestrator.gcs.head import Head
from orchestrator.gcs.messages import Pending
from orchestrator.gcs.requests import Answer, Request

#: A drain of the autoscaler ends no work: the node leaves when nothing is left on it. Some bound there is.
DRAIN_GRACE_S = 30 * 86_400.0

#: Looks in a row that must find a demand before it counts. Two were too few on a loaded machine.
LOOKS = 3


class Asks(Protocol):
    """What is needed of `gcs.server.GcsServer`."""

    head: Head

    async def ask(self, request: Request) -> Answer:
        """Answer a question; what it changes is stored on return."""
        ...


class _Idleness:
    """How long a node has been idle. What a node says of it is a fact without a time: clocks differ."""

    __slots__ = ("since_s", "worked")

    def __init__(self, worked: int, now_s: float) -> None:
        self.worked = worked
        self.since_s = now_s


class HeadPort:
    """See `runner.ClusterPort`.

    Args:
        server: the head.
        complain: tells the operator a line.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, server: Asks, complain: Callable[[str], None], now: Callable[[], float]) -> None:
        self._server = server
        self._complain = complain
        self._now = now
        self._idle: dict[int, _Idleness] = {}
        #: What waited at the last looks: counts of classes; and groups, at the last one.
        self._waited: deque[dict[SchedulingClass, int]] = deque([{}] * (LOOKS - 1), LOOKS - 1)
        self._groups_waited: set[str] = set()

    async def nodes(self) -> Sequence[ClusterNode]:
        """Return the nodes that live."""
        members = self._server.head.nodes.members()
        for gone in self._idle.keys() - {record.index for record in members}:
            del self._idle[gone]
        found = []
        for record in members:
            spec, status = record.spec, _loaded(record.status)
            found.append(
                ClusterNode(
                    spec.node_id,
                    spec.labels.get(INSTANCE_LABEL, ""),
                    spec.total,
                    record.available,
                    spec.labels,
                    self._idle_s(record.index, status),
                    record.drain is not None or bool(status.get("draining")),
                )
            )
        return found

    def _idle_s(self, index: int, status: Mapping[str, Any]) -> float:
        """Return how long a node has done nothing, as far as was seen."""
        if status.get("busy", True):
            self._idle.pop(index, None)
            return 0.0
        worked = status.get("worked", 0)
        known = self._idle.get(index)
        if known is None or known.worked != worked:
            known = self._idle[index] = _Idleness(worked, self._now())
        return self._now() - known.since_s

    async def demand(self) -> Demand:
        """Return what waits, and has at the looks before, and what was requested.

        Nodes report at different times. So for a moment a demand that was just met may still be said to wait,
        beside a node that is said to be full because of it: no reason to start another one.
        """
        waits: dict[SchedulingClass, int] = {}
        for record in self._server.head.nodes.members():
            for pending in record.pending:
                scheduling = _scheduling_of(pending)
                if scheduling is not None:
                    waits[scheduling] = waits.get(scheduling, 0) + pending.copies
        waiting = [
            (one, min(count, *(before.get(one, 0) for before in self._waited)))
            for one, count in waits.items()
        ]
        self._waited.append(waits)
        return demand_of(waiting, self._groups(), await self._requested())

    def _groups(self) -> list[Group]:
        answer = self._server.head.groups.groups()
        assert isinstance(answer, requests.Groups)
        waits = [group for group in answer.groups if group.state in ("PENDING", "RESCHEDULING")]
        before, self._groups_waited = self._groups_waited, {group.spec.group for group in waits}
        found = []
        for group in waits:
            spec = group.spec
            if spec.group not in before:
                continue
            shapes = [
                Shape(
                    resources,
                    (selector_of(spec.selectors[place].conditions),)
                    if place < len(spec.selectors) and spec.selectors[place].conditions
                    else (),
                )
                for place, resources in enumerate(spec.bundles)
                if place >= len(group.nodes) or not group.nodes[place]
            ]
            found.append(Group(spec.strategy, tuple(shapes)))
        return found

    async def _requested(self) -> list[Shape]:
        try:
            return wishes.requests_from_value(await self._value(wishes.REQUESTED))
        except ConfigError as exc:
            self._complain(f"autoscaler: what was requested makes no sense, and is ignored: {exc}")
            return []

    async def limits(self) -> tuple[int, int] | None:
        """Return the (minimum, maximum) of nodes that a program has asked for; None if none has."""
        try:
            return wishes.limits_from_value(await self._value(wishes.LIMITS))
        except ConfigError as exc:
            self._complain(f"autoscaler: the limits make no sense, and are ignored: {exc}")
            return None

    async def _value(self, key: bytes) -> bytes | None:
        answer = self._server.head.kv.get(requests.GetValue(wishes.NAMESPACE, key))
        assert isinstance(answer, requests.Value)
        return answer.value

    async def drain(self, node: str, cause: str) -> None:
        """Have a node take nothing new and leave when nothing is left on it."""
        record = self._server.head.nodes.by_id(node)
        if record is not None and record.is_member:
            await self._server.ask(requests.RequestDrain(record.index, cause, DRAIN_GRACE_S))

    async def load(self) -> Sequence[Mapping[str, Any]]:
        """Return what was last saved."""
        value = await self._value(wishes.INSTANCES)
        records: list[Mapping[str, Any]] = [] if value is None else json.loads(value)
        return records

    async def save(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write down the records of the instances.

        Raises:
            ConnectionError: the head does not take them.
        """
        value = json.dumps(list(records)).encode()
        answer = await self._server.ask(requests.PutValue(wishes.NAMESPACE, wishes.INSTANCES, value))
        if not isinstance(answer, requests.Done):
            raise ConnectionError(f"the records of instances are not stored: {answer}")

    async def say(self, text: str) -> None:
        """Tell the operator."""
        self._complain(f"autoscaler: {text}")


def _loaded(status: str) -> Mapping[str, Any]:
    """Return what a node says of itself; nothing if it has said nothing yet, or nonsense."""
    try:
        found = json.loads(status)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _scheduling_of(pending: Pending) -> SchedulingClass | None:
    try:
        placement = placement_from_message(json.loads(pending.placement)) if pending.placement else None
    except ValueError:
        return None
    return SchedulingClass(pending.resources, "", placement)
