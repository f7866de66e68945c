"""What the autoscaler reads off the head's tables: a real head, without a network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.autoscaler import wishes
from orchestrator.autoscaler.demand import Group, Shape
from orchestrator.autoscaler.head_port import DRAIN_GRACE_S, HeadPort
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL
from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import requests
from orchestrator.gcs.bundle_choice import BundleChoice
from orchestrator.gcs.effects import Reply
from orchestrator.gcs.head import Head
from orchestrator.gcs.messages import DrainNode, Heartbeat, NodeSpec, Pending, Register
from orchestrator.gcs.requests import Answer, Request

CPUS = ResourceSet.from_floats({"CPU": 4})
ONE = ResourceSet.from_floats({"CPU": 1})
NODE = "00000000000000aa"


class Server:
    """Asks a head as `GcsServer` does."""

    def __init__(self) -> None:
        self.head = Head({}, cluster_id="c", epoch=1, now_s=0.0, choose=BundleChoice(), refuse_after_s=None)
        self.head.begin()
        self.sent: list[Any] = []

    async def ask(self, request: Request) -> Answer:
        *effects, reply = self.head.own_call(len(self.sent) + 1, request, 0.0)
        self.sent += effects
        assert isinstance(reply, Reply) and reply.node == 0
        return reply.answer


@pytest.fixture
def server() -> Server:
    made = Server()
    spec = NodeSpec(NODE, "host", {}, CPUS, {INSTANCE_LABEL: "r1", "zone": "a"})
    made.head.register(1, Register(spec), 0.0, 0.0)
    return made


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def port(server: Server, clock: Clock, said: list[str]) -> HeadPort:
    return HeadPort(server, said.append, clock)


def report(server: Server, *pending: Pending, **status: Any) -> None:
    server.head.heartbeat(1, Heartbeat(ONE, pending, json.dumps({"version": 1, **status})), 0.0)


def test_how_long_a_node_is_idle_is_what_was_seen_of_it(server: Server, port: HeadPort, clock: Clock) -> None:
    def idle_s() -> float:
        (node,) = asyncio.run(port.nodes())
        assert (node.node, node.request, node.total) == (NODE, "r1", CPUS)
        return node.idle_s

    assert idle_s() == 0  # it has said nothing yet
    report(server, busy=False, worked=1)
    assert idle_s() == 0
    clock.now_s += 7
    assert idle_s() == 7
    report(server, busy=False, worked=2)  # it has worked meanwhile, and nobody saw it
    assert idle_s() == 0
    clock.now_s += 3
    report(server, busy=True, worked=2)
    assert idle_s() == 0


def test_demand_counts_when_three_looks_have_seen_it(server: Server, port: HeadPort) -> None:
    where = json.dumps({"labels": [{"zone": "a"}]})
    report(server, Pending(ONE, 3), Pending(ONE, 1, "", where), Pending(ONE, 1, "", "nonsense"))
    assert asyncio.run(port.demand()).pending == ()
    report(server, Pending(ONE, 2), Pending(ONE, 1, "", where))
    assert asyncio.run(port.demand()).pending == ()
    assert asyncio.run(port.demand()).pending == ((Shape(ONE), 2), (Shape(ONE, ((("zone", "a"),),)), 1))


def test_groups_that_wait(server: Server, port: HeadPort) -> None:
    large = ResourceSet.from_floats({"CPU": 64})
    selectors = (requests.LabelSelector({"zone": "a"}),)
    spec = requests.GroupSpec("g1", "", "", "SPREAD", (large, large), selectors=selectors)
    asyncio.run(server.ask(requests.CreateGroup(spec)))
    assert asyncio.run(port.demand()).groups == ()
    shapes = (Shape(large, ((("zone", "a"),),)), Shape(large))
    assert asyncio.run(port.demand()).groups == (Group("SPREAD", shapes),)


def test_wishes_of_programs(server: Server, port: HeadPort, said: list[str]) -> None:
    def put(key: bytes, value: bytes) -> None:
        asyncio.run(server.ask(requests.PutValue(wishes.NAMESPACE, key, value)))

    assert asyncio.run(port.limits()) is None
    put(wishes.LIMITS, wishes.limits_to_value(1, 3))
    put(wishes.REQUESTED, wishes.requests_to_value([{"CPU": 1}] * 2))
    assert asyncio.run(port.limits()) == (1, 3)
    assert asyncio.run(port.demand()).requested == ((Shape(ONE), 2),)
    put(wishes.LIMITS, b"nonsense")
    put(wishes.REQUESTED, b"nonsense")
    assert asyncio.run(port.limits()) is None and asyncio.run(port.demand()).requested == ()
    assert ["is not JSON" in text for text in said] == [True, True]


def test_records_are_stored_and_come_back(server: Server, port: HeadPort) -> None:
    assert asyncio.run(port.load()) == []
    asyncio.run(port.save([{"request": "r1"}]))
    assert asyncio.run(port.load()) == [{"request": "r1"}]
    with pytest.raises(ConnectionError, match="are not stored"):
        asyncio.run(port.save([{"request": "x" * (17 << 20)}]))


def test_a_drain_ends_no_work(server: Server, port: HeadPort) -> None:
    asyncio.run(port.drain("nobody", "idle"))
    asyncio.run(port.drain(NODE, "idle"))
    assert [one.event for one in server.sent if isinstance(getattr(one, "event", None), DrainNode)] == [
        DrainNode("idle", DRAIN_GRACE_S)
    ]
    (node,) = asyncio.run(port.nodes())
    assert node.is_draining
