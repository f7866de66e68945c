"""Any sequence of events: nothing is granted twice, or lost at a death; what can be served is."""

from __future__ import annotations

import random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.events import (
    ActorWanted,
    ClientDied,
    Complain,
    EndWorker,
    Event,
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
        self.scheduler = LocalScheduler(TOTAL, pool_size=3, workers_max=40)
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
            elif isinstance(instruction, Reclaim):
                pair = (instruction.client, instruction.class_key)
                assert pair in self.leases.values(), "only those who have something are asked"
            else:
                assert isinstance(instruction, Infeasible | Complain)
                assert not isinstance(instruction, Complain), instruction

    def pick(self, tokens: set[int], seed: int) -> int:
        return random.Random(seed).choice(sorted(tokens))

    @invariant()
    def consistent(self) -> None:
        self.scheduler.validate()

    @invariant()
    def whoever_fits_has_a_process_or_is_given_one(self) -> None:
        idle = self.live - self.ending - set(self.leases) - set(self.actors)
        if idle:
            for demand in self.scheduler.waiting():
                free = self.scheduler.available
                assert not (demand.resources.fits(free) and demand.hold.fits(free)), demand

    @rule(client=st.sampled_from(CLIENTS), key=st.sampled_from("fg"), resources=st.sampled_from(RESOURCES))
    def want(self, client: int, key: str, resources: ResourceSet) -> None:
        want = 1 + (client * 7 + len(key)) % 4
        feasible = resources.fits(TOTAL)
        self.wanted[client, key] = (resources, want if feasible else 0)
        self.tell(LeaseWanted(client, key, SchedulingClass(resources), want))

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
            if not self.scheduler.waiting() and not self.leases:
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
