"""The shell, with a cluster and a provider in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.autoscaler.config import AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Shape
from orchestrator.autoscaler.providers.provider import ProviderError
from orchestrator.autoscaler.reconciler import ClusterNode, ProviderInstance
from orchestrator.autoscaler.runner import Runner
from orchestrator.autoscaler.testing import check_provider
from orchestrator.common.resources import ResourceSet

CPUS = ResourceSet.from_floats({"CPU": 4})
CONFIG = AutoscalerConfig({"small": NodeType("small", CPUS)}, max_workers=3, idle_timeout_s=10)


class Memory:
    """A provider whose machines run at once."""

    def __init__(self) -> None:
        self.made: dict[str, ProviderInstance] = {}
        self.error = ""
        self.launch_error = ""

    async def launch(self, request: str, node_type: NodeType) -> None:
        self._fail()
        if self.launch_error:
            raise ProviderError(self.launch_error)
        if all(one.request != request for one in self.made.values()):
            self.made[f"m-{request}"] = ProviderInstance(
                f"m-{request}", request, "default", node_type.name, True
            )

    async def terminate(self, provider_id: str) -> None:
        self._fail()
        self.made.pop(provider_id, None)

    async def machines(self) -> Sequence[ProviderInstance]:
        self._fail()
        return list(self.made.values())

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.error:
            raise ProviderError(self.error)


class Port:
    """A cluster of which every machine is a node at once."""

    def __init__(self, provider: Memory) -> None:
        self.provider = provider
        self.wanted = Demand()
        self.asked: tuple[int, int] | None = None
        self.drained: set[str] = set()
        self.records: Sequence[Mapping[str, Any]] = ()
        self.said: list[str] = []
        self.is_down = False

    async def nodes(self) -> Sequence[ClusterNode]:
        return [
            ClusterNode(f"n-{one.request}", one.request, CPUS, CPUS, {}, 0.0, draining, draining)
            for one in self.provider.made.values()
            for draining in (f"n-{one.request}" in self.drained,)
        ]

    async def demand(self) -> Demand:
        return self.wanted

    async def limits(self) -> tuple[int, int] | None:
        return self.asked

    async def drain(self, node: str, cause: str) -> None:
        self.drained.add(node)

    async def load(self) -> Sequence[Mapping[str, Any]]:
        return self.records

    async def save(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self.is_down:
            raise ConnectionError("the head is away")
        self.records = records

    async def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def provider() -> Memory:
    return Memory()


@pytest.fixture
def port(provider: Memory) -> Port:
    return Port(provider)


@pytest.fixture
def runner(provider: Memory, port: Port) -> Runner:
    numbers = itertools.count(1)
    return Runner(CONFIG, provider, port, lambda: f"r{next(numbers)}", interval_s=0)


def steps(runner: Runner, *times_s: float) -> None:
    async def whole() -> None:
        for now_s in times_s:
            await runner.step(now_s)

    asyncio.run(whole())


def test_the_provider_in_memory_is_one(provider: Memory) -> None:
    asyncio.run(check_provider(provider, CONFIG.node_types["small"], "default"))


def test_up_and_down(runner: Runner, provider: Memory, port: Port) -> None:
    port.asked = (2, 2)
    steps(runner, 1, 2, 3)
    assert len(provider.made) == 2
    port.asked = (1, 1)
    steps(runner, 4, 5, 6)
    assert len(provider.made) == 1 and len(port.drained) == 1
    port.asked = None
    port.wanted = Demand(pending=((Shape(CPUS), 9),))
    steps(runner, 7, 8)
    assert len(provider.made) == 3


def test_a_launch_that_fails_is_said_and_tried_again(runner: Runner, provider: Memory, port: Port) -> None:
    port.asked, provider.launch_error = (1, 1), "no capacity"
    steps(runner, 1, 2)
    assert port.said == ["a node of type 'small' could not be started: no capacity"]
    provider.launch_error = ""
    steps(runner, 3, 10)
    assert len(provider.made) == 1


def test_a_provider_that_is_silent_changes_nothing(runner: Runner, provider: Memory, port: Port) -> None:
    port.asked, provider.error = (1, 1), "no network"
    steps(runner, 1, 2)
    assert not provider.made and set(port.said) == {
        "the provider does not say which machines there are: no network"
    }


def test_nothing_is_started_that_was_not_written_down(runner: Runner, provider: Memory, port: Port) -> None:
    port.asked, port.is_down = (2, 2), True
    with pytest.raises(ConnectionError):
        steps(runner, 1)
    assert not provider.made
    port.is_down = False
    steps(runner, 2, 3)
    assert len(provider.made) == 2


def test_it_runs_until_it_is_cancelled(runner: Runner, provider: Memory, port: Port) -> None:
    port.asked, port.is_down = (1, 1), True

    async def whole() -> None:
        task = asyncio.create_task(runner.run())
        await asyncio.sleep(0)
        port.is_down = False
        while not provider.made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(whole())
