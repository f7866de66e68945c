"""A provider that fails in all ways, nodes that join late or never, an autoscaler that is killed."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

from orchestrator.autoscaler.config import AutoscalerConfig, NodeType
from orchestrator.autoscaler.demand import Demand, Shape
from orchestrator.autoscaler.instances import LIVING, State
from orchestrator.autoscaler.reconciler import (
    ClusterNode,
    Drain,
    Launch,
    Observation,
    Persist,
    ProviderInstance,
    Reconciler,
    Say,
    Terminate,
)
from orchestrator.common.resources import ResourceSet

#: Something on a node holds up its drain: an actor that lives on, say.
STUCK_S = 900


class Machine:
    """What exists at the provider, and the node on it."""

    def __init__(self, number: int, request: str, kind: str, now_s: float, rng: Random, faults: bool) -> None:
        self.provider_id, self.request, self.kind = f"m-{number}", request, kind
        self.shown_s = now_s + rng.choice([0, 1, 20])
        self.runs_s = self.shown_s + rng.choice([0, 5, 60])
        never = faults and rng.random() < 0.1
        self.joins_s = float("inf") if never else self.runs_s + rng.choice([0, 2, 30])
        self.is_stuck = faults and rng.random() < 0.05
        self.drains_s: float | None = None
        self.drained_s: float | None = None
        self.idle_since_s = self.joins_s
        #: What runs on it: (resources, until).
        self.tasks: list[tuple[ResourceSet, float]] = []


class World:
    """Everything outside of the autoscaler. Tasks take the room that they find; time goes in seconds."""

    def __init__(self, seed: int, config: AutoscalerConfig, *, faults: bool) -> None:
        self.rng = Random(seed)
        self.config = config
        self.faults = faults
        self.now_s = 0.0
        self.machines: list[Machine] = []
        self.waiting: Counter[Shape] = Counter()
        self.requested: tuple[tuple[Shape, int], ...] = ()
        self.disk = "[]"
        self.made = 0
        #: What this life of the autoscaler has asked for, and what was ever made.
        self.requests: set[str] = set()
        self.was_made: set[str] = set()
        self.said: list[str] = []
        self.is_quiet = False
        self.strangers = [
            ProviderInstance("s-1", "", "", "small", True),
            ProviderInstance("s-2", "r-1", "another cluster", "small", True),
        ]
        self.autoscaler = self._start()

    def _start(self) -> Reconciler:
        def new_request() -> str:
            self.made += 1
            return f"r-{self.made}"

        self.requests = set()
        return Reconciler(self.config, new_request, json.loads(self.disk), self.now_s)

    # ------------------------------------------------------------ what there is

    def happens(self, chance: float) -> bool:
        return self.faults and not self.is_quiet and self.rng.random() < chance

    def nodes(self) -> list[ClusterNode]:
        found = []
        for one in self.machines:
            if one.joins_s > self.now_s:
                continue
            total = self.config.node_types[one.kind].resources
            free = total
            for taken, _ in one.tasks:
                free = free.subtract(taken)
            idle_s = 0.0 if one.tasks else self.now_s - one.idle_since_s
            found.append(
                ClusterNode(
                    f"node-{one.provider_id}", one.request, total, free, {}, idle_s,
                    one.drains_s is not None, one.drained_s is not None,
                )
            )  # fmt: skip
        return found

    def observe(self) -> Observation:
        shown = [
            ProviderInstance(one.provider_id, one.request, "default", one.kind, one.runs_s <= self.now_s)
            for one in self.machines
            if one.shown_s <= self.now_s
        ]
        provider = None if self.happens(0.05) else [*shown, *self.strangers]
        cluster = None if self.happens(0.05) else self.nodes()
        return Observation(provider, cluster, Demand(tuple(self.waiting.items()), (), self.requested))

    # ------------------------------------------------------------ what happens

    def step(self) -> None:
        self.now_s += 1.0
        self._work()
        if self.happens(0.01) and self.machines:
            self.machines.remove(self.rng.choice(self.machines))  # somebody else took it, or it died
        if self.happens(0.01) and self.machines:
            dead = self.rng.choice(self.machines)  # the node process died, the machine runs on
            dead.joins_s, dead.tasks = float("inf"), []
        if self.happens(0.02):
            self.autoscaler = self._start()  # killed
        instructions = self.autoscaler.step(self.observe(), self.now_s)
        dies_after = self.rng.randrange(len(instructions) + 1) if self.happens(0.02) else None
        for place, one in enumerate(instructions):
            if place == dies_after:
                self.autoscaler = self._start()
                break
            self._perform(one)
        self.autoscaler.validate()
        self.check()

    def _perform(self, one: Any) -> None:
        match one:
            case Persist(records):
                self.disk = json.dumps(records)
            case Launch(request, kind):
                assert request in self.disk, "done before it was written down"
                assert request not in self.requests, "asked for twice"
                self.requests.add(request)
                if request in self.was_made:
                    pass  # asked for by an autoscaler that was killed, too
                elif self.happens(0.2):
                    self.autoscaler.launch_failed(request, "no capacity", self.now_s)
                elif not self.happens(0.05):  # or it is lost
                    self.was_made.add(request)
                    number = len(self.was_made)
                    self.machines.append(Machine(number, request, kind, self.now_s, self.rng, self.faults))
            case Terminate(provider_id, _):
                assert provider_id.startswith("m-"), "a stranger's"
                found = [m for m in self.machines if m.provider_id == provider_id]
                if found and not self.happens(0.2):
                    self._check_terminated(found[0])
                    self.machines.remove(found[0])
            case Drain(node, _):
                for m in self.machines:
                    if f"node-{m.provider_id}" == node and m.drains_s is None:
                        m.drains_s = self.now_s
            case Say(text):
                self.said.append(text)

    def _check_terminated(self, machine: Machine) -> None:
        has_joined = machine.joins_s <= self.now_s
        if has_joined and not self.faults:
            assert machine.drained_s is not None, "taken back without being drained"
        if has_joined and machine.drained_s is None:
            # With faults: only what was given up before it joined.
            one = self.autoscaler.instances.get(machine.request)
            assert one is None or not one.node or one.state is not State.DRAINING, one

    def _work(self) -> None:
        for one in self.machines:
            before = len(one.tasks)
            one.tasks = [(taken, until) for taken, until in one.tasks if until > self.now_s]
            if before and not one.tasks:
                one.idle_since_s = self.now_s
            if one.drains_s is not None and not one.tasks and one.drained_s is None:
                if self.now_s - one.drains_s >= (STUCK_S if one.is_stuck else 3):
                    one.drained_s = self.now_s
        for node, one in zip(
            self.nodes(), [m for m in self.machines if m.joins_s <= self.now_s], strict=True
        ):
            free = node.free
            for shape in list(self.waiting):
                while self.waiting[shape] and shape.resources.fits(free) and not node.is_draining:
                    one.tasks.append((shape.resources, self.now_s + self.rng.choice([1, 10, 60])))
                    free = free.subtract(shape.resources)
                    self.waiting[shape] -= 1
                if not self.waiting[shape]:
                    del self.waiting[shape]

    def check(self) -> None:
        living = self.autoscaler.instances.in_state(*LIVING)
        assert len(living) <= self.config.max_workers, living
        kinds = Counter(one.node_type for one in living)
        for name, count in kinds.items():
            assert count <= self.config.node_types[name].max_workers, kinds
        if not self.faults:
            assert len(self.machines) <= self.config.max_workers


SHAPES = [Shape(ResourceSet.from_floats(q)) for q in ({"CPU": 1}, {"CPU": 3}, {"CPU": 1, "GPU": 1})]


def config(maximum: int, least: int) -> AutoscalerConfig:
    kinds = {
        "small": NodeType("small", ResourceSet.from_floats({"CPU": 4}), min_workers=least),
        "gpu": NodeType("gpu", ResourceSet.from_floats({"CPU": 4, "GPU": 1}), max_workers=2),
    }
    return AutoscalerConfig(kinds, max_workers=maximum, idle_timeout_s=30)


def run(seed: int) -> None:
    """Run one autoscaler through random demand, and, two times of three, through faults.

    Raises:
        AssertionError: a limit was passed, demand was not served, or a machine was left.
    """
    rng = Random(seed)
    made = config(maximum=rng.choice([3, 4, 8]), least=rng.choice([0, 1, 2]))
    world = World(seed, made, faults=seed % 3 != 0)
    for _ in range(1500):
        if rng.random() < 0.05:
            shape = rng.choice(SHAPES)
            world.waiting[shape] += 1 if shape.resources["GPU"] else rng.choice([1, 3, 20])
        if rng.random() < 0.005:
            world.requested = ((SHAPES[0], rng.choice([0, 4, 8])),)
        world.step()
    world.is_quiet = True  # no more faults; what was begun goes on
    world.requested = ()
    for _ in range(4000):
        world.step()
        if not world.waiting and not any(m.tasks for m in world.machines):
            break
    assert not world.waiting, "not served"
    for machine in world.machines:
        machine.is_stuck = False
    least = made.node_types["small"].min_workers
    for _ in range(2500):
        world.step()
        if len(world.machines) == len(world.nodes()) == least:
            break
    assert len(world.machines) == least, [vars(m) for m in world.machines]
    assert len(world.nodes()) == least
    assert {one.provider_id for one in world.strangers} == {"s-1", "s-2"}
