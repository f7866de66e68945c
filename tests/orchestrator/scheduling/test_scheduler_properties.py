"""Any sequence of events: nothing is granted twice, or lost at a death; what can be served is."""

from __future__ import annotations

import random
from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.common.resources import UNITS_PER_WHOLE, ResourceSet
from orchestrator.common.scheduling_class import InBundle, SchedulingClass
from orchestrator.scheduling.demands import PATIENCE_S
from orchestrator.scheduling.events import (
    ActorWanted,
    BundlesInfeasible,
    BundlesReleased,
    BundlesReserved,
    BundlesWanted,
    ClientDied,
    Complain,
    EndWorker,
    Event,
    Explain,
    Grant,
    Infeasible,
    LeaseReturned,
    LeaseWanted,
    PlaceActor,
    Reclaim,
    StartWorker,
    Tick,
    WorkerBlocked,
    WorkerDied,
    WorkerReady,
    WorkerUnblocked,
)
from orchestrator.scheduling.local_scheduler import LocalScheduler

DEVICES = {"GPU": {"0": UNITS_PER_WHOLE}}

TOTAL = ResourceSet.from_floats({"CPU": 3, "GPU": 1})
RESOURCES = [
    ResourceSet.from_floats(quantities)
    for quantities in (
        {},
        {"CPU": 0.5},
        {"CPU": 1},
        {"CPU": 3},
        {"CPU": 1, "GPU": 0.5},
        {"GPU": 1},
        {"CPU": 4},
    )
]
CLIENTS = (1, 2, 3)


class SchedulerAgainstModel(RuleBasedStateMachine):
    """A simple-minded account of who has what, beside the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = LocalScheduler(TOTAL, pool_size=3, workers_max=40, devices=DEVICES)
        self.now_s = 0.0
        self.starting: set[int] = set()
        self.live: set[int] = set()
        self.ending: set[int] = set()
        #: Worker to (client, class) while it is on lease.
        self.leases: dict[int, tuple[int, int | str]] = {}
        self.blocked: set[int] = set()
        self.actors: dict[int, str] = {}
        self.wanted: dict[tuple[int, int | str], tuple[ResourceSet, int]] = {}
        self.actors_wanted: dict[str, int] = {}
        self.actor_last = 0
        #: Groups that are not removed, and whether their bundles are reserved.
        self.groups: dict[str, bool] = {}
        self.group_last = 0
        self.tell(Tick())

    def tell(self, event: Event) -> None:
        for instruction in self.scheduler.handle(event, self.now_s):
            if isinstance(instruction, StartWorker):
                assert instruction.token not in self.starting | self.live
                self.starting.add(instruction.token)
            elif isinstance(instruction, Grant):
                token, pair = instruction.token, (instruction.client, instruction.class_key)
                assert (
                    token in self.live - self.ending and token not in self.leases and token not in self.actors
                )
                resources, want = self.wanted[pair]
                assert want > 0
                self.wanted[pair] = (resources, want - 1)
                self.leases[token] = pair
            elif isinstance(instruction, PlaceActor):
                assert instruction.token in self.live - self.ending and instruction.token not in self.leases
                del self.actors_wanted[instruction.actor]
                self.actors[instruction.token] = instruction.actor
            elif isinstance(instruction, EndWorker):
                self.ending.add(instruction.token)
            elif isinstance(instruction, Explain):
                assert "has waited" in instruction.text
            elif isinstance(instruction, Reclaim):
                pair = (instruction.client, instruction.class_key)
                assert pair in self.leases.values(), "only those who have something are asked"
            elif isinstance(instruction, BundlesReserved):
                self.groups[instruction.group] = True
            else:
                assert isinstance(instruction, Infeasible | BundlesInfeasible | Complain)
                assert not isinstance(instruction, Complain), instruction
                if isinstance(instruction, Infeasible):
                    self.wanted[instruction.client, instruction.class_key] = (ResourceSet(), 0)

    def pick(self, tokens: set[int], seed: int) -> int:
        return random.Random(seed).choice(sorted(tokens))

    @invariant()
    def consistent(self) -> None:
        self.scheduler.validate()

    @invariant()
    def whoever_fits_has_a_process_or_is_given_one(self) -> None:
        idle = self.live - self.ending - set(self.leases) - set(self.actors)
        overdue = any(self.now_s - demand.since_s >= PATIENCE_S for demand in self.scheduler.waiting())
        if idle and not overdue:  # else something may be kept for who has waited longest
            for demand in self.scheduler.waiting():
                accounts = self.scheduler.places.accounts_of(demand.scheduling)
                fitting = [a for a in accounts if a.fits(demand.resources) and a.fits(demand.hold)]
                assert demand.bundles or not fitting, demand

    @invariant()
    def no_device_is_given_twice(self) -> None:
        given = Counter[str]()
        for slot in self.scheduler.slots:
            for ids in slot.devices.values():
                given.update(ids)  # a Counter adds up the units
            assert sum(slot.devices.get("GPU", {}).values()) == slot.held["GPU"], slot
        assert all(units <= UNITS_PER_WHOLE for units in given.values()), given

    @rule(
        client=st.sampled_from(CLIENTS),
        key=st.sampled_from("fg"),
        resources=st.sampled_from(RESOURCES),
        priority=st.sampled_from([0, 0, 1, -1]),
    )
    def want(self, client: int, key: str, resources: ResourceSet, priority: int) -> None:
        want = 1 + (client * 7 + len(key)) % 4
        self.wanted[client, key] = (resources, want)
        self.tell(LeaseWanted(client, key, SchedulingClass(resources, priority=priority), want))

    @precondition(lambda self: self.groups)
    @rule(client=st.sampled_from(CLIENTS), seed=st.integers(0, 99), bundle=st.sampled_from([-1, 0, 1]))
    def want_in_a_group(self, client: int, seed: int, bundle: int) -> None:
        group = random.Random(seed).choice(sorted(self.groups))
        self.wanted[client, "h"] = (RESOURCES[1], 2)
        self.tell(LeaseWanted(client, "h", SchedulingClass(RESOURCES[1], "", InBundle(group, bundle)), 2))

    @rule(bundles=st.lists(st.sampled_from(RESOURCES[1:6]), min_size=1, max_size=2))
    def create_a_group(self, bundles: list[ResourceSet]) -> None:
        self.group_last += 1
        group = f"g{self.group_last}"
        self.groups[group] = False
        self.tell(BundlesWanted(group, tuple(bundles)))

    @precondition(lambda self: self.groups)
    @rule(seed=st.integers(0, 99))
    def remove_a_group(self, seed: int) -> None:
        group = random.Random(seed).choice(sorted(self.groups))
        del self.groups[group]
        self.tell(BundlesReleased(group))

    @rule(client=st.sampled_from(CLIENTS), key=st.sampled_from("fg"))
    def want_no_more(self, client: int, key: str) -> None:
        self.wanted[client, key] = (ResourceSet(), 0)
        self.tell(LeaseWanted(client, key, SchedulingClass(ResourceSet()), 0))

    @rule(client=st.sampled_from(CLIENTS), hold=st.sampled_from(RESOURCES[:3]))
    def want_actor(self, client: int, hold: ResourceSet) -> None:
        self.actor_last += 1
        actor = f"a{self.actor_last}"
        self.actors_wanted[actor] = client
        self.tell(ActorWanted(client, actor, SchedulingClass(ResourceSet.from_floats({"CPU": 1})), hold))

    @precondition(lambda self: self.starting)
    @rule(seed=st.integers(0, 99))
    def ready(self, seed: int) -> None:
        token = self.pick(self.starting, seed)
        self.starting.remove(token)
        self.live.add(token)
        self.tell(WorkerReady(token, 1000 + token))

    @precondition(lambda self: set(self.leases) - self.ending)
    @rule(seed=st.integers(0, 99))
    def give_back(self, seed: int) -> None:
        token = self.pick(set(self.leases) - self.ending, seed)
        client, _ = self.leases.pop(token)
        self.blocked.discard(token)
        self.tell(LeaseReturned(client, token))

    @precondition(lambda self: (set(self.leases) | set(self.actors)) - self.blocked - self.ending)
    @rule(seed=st.integers(0, 99))
    def block(self, seed: int) -> None:
        token = self.pick((set(self.leases) | set(self.actors)) - self.blocked - self.ending, seed)
        self.blocked.add(token)
        self.tell(WorkerBlocked(token))

    @precondition(lambda self: self.blocked - self.ending)
    @rule(seed=st.integers(0, 99))
    def unblock(self, seed: int) -> None:
        token = self.pick(self.blocked - self.ending, seed)
        self.blocked.remove(token)
        self.tell(WorkerUnblocked(token))

    @precondition(lambda self: self.live | self.starting)
    @rule(seed=st.integers(0, 99))
    def die(self, seed: int) -> None:
        token = self.pick(self.live | self.starting, seed)
        for where in (self.live, self.starting, self.ending, self.blocked):
            where.discard(token)
        self.leases.pop(token, None)
        self.actors.pop(token, None)
        self.tell(WorkerDied(token))

    @rule(client=st.sampled_from(CLIENTS))
    def client_dies(self, client: int) -> None:
        for pair in self.wanted:
            if pair[0] == client:
                self.wanted[pair] = (ResourceSet(), 0)
        self.actors_wanted = {a: c for a, c in self.actors_wanted.items() if c != client}
        self.tell(ClientDied(client))
        assert {t for t, pair in self.leases.items() if pair[0] == client} <= self.ending

    @rule(seconds=st.sampled_from([0.01, 0.1, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(Tick())

    def teardown(self) -> None:
        """Let everything end well: every demand is served, and in the end all resources are back."""
        for _ in range(400):
            self.now_s += 10.0
            self.tell(Tick())
            for token in sorted(self.starting):
                self.ready_now(token)
            for token in sorted(self.blocked - self.ending):
                self.blocked.remove(token)
                self.tell(WorkerUnblocked(token))
            for token in sorted(self.ending | set(self.actors)):
                self.die_now(token)
            for token, (client, _) in sorted(self.leases.items()):
                del self.leases[token]
                self.tell(LeaseReturned(client, token))
            for group, reserved in sorted(self.groups.items()):
                if reserved:
                    del self.groups[group]
                    self.tell(BundlesReleased(group))
            if not self.scheduler.waiting() and not self.leases and not any(self.groups.values()):
                break
        assert self.scheduler.waiting() == [] and not self.actors_wanted
        for token in sorted(self.live):
            self.die_now(token)
        assert self.scheduler.available == TOTAL

    def ready_now(self, token: int) -> None:
        self.starting.discard(token)
        self.live.add(token)
        self.tell(WorkerReady(token, 1000 + token))

    def die_now(self, token: int) -> None:
        for where in (self.live, self.starting, self.ending, self.blocked):
            where.discard(token)
        self.leases.pop(token, None)
        self.actors.pop(token, None)
        self.tell(WorkerDied(token))


TestSchedulerAgainstModel = SchedulerAgainstModel.TestCase
TestSchedulerAgainstModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
