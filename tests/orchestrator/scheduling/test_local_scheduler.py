"""The scheduler, told what happens and asked what to do: no process, no clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling import local_scheduler as module
from orchestrator.scheduling import sharing, starting
from orchestrator.scheduling.events import (
    ActorWanted,
    ActorWithdrawn,
    ClientDied,
    Complain,
    EndWorker,
    EnvironmentFailed,
    EnvironmentReady,
    Event,
    Grant,
    Infeasible,
    Instruction,
    LeaseReturned,
    LeaseWanted,
    PlaceActor,
    PoolWanted,
    PrepareEnvironment,
    Reclaim,
    StartWorker,
    Tick,
    WorkerBlocked,
    WorkerDied,
    WorkerDoomed,
    WorkerReady,
    WorkerUnblocked,
)
from orchestrator.scheduling.local_scheduler import LocalScheduler
from orchestrator.scheduling.worker_slots import WorkerState

DRIVER, OTHER = 1, 2


def cpus(count: float, **more: float) -> ResourceSet:
    return ResourceSet.from_floats({"CPU": count, **more})


def plain(resources: ResourceSet, env: str = "") -> SchedulingClass:
    return SchedulingClass(resources, env)


class Node:
    """A scheduler with processes that start at once when told to, and a clock that is turned by hand."""

    def __init__(self, total: ResourceSet, pool_size: int = 2, **options: float) -> None:
        self.scheduler = LocalScheduler(total, pool_size=pool_size, **options)  # type: ignore[arg-type]
        self.now_s = 100.0
        self.unstarted: list[int] = []
        self.said: list[Instruction] = []
        #: Whether runtime environments are ready as soon as they are asked for.
        self.prepares = True

    def tell(self, event: Event) -> list[Instruction]:
        out = self.scheduler.handle(event, self.now_s)
        self.scheduler.validate()
        self.said += out
        self.unstarted += [i.token for i in out if isinstance(i, StartWorker)]
        for env in [i.env for i in out if isinstance(i, PrepareEnvironment) and self.prepares]:
            out += self.tell(EnvironmentReady(env))
        return out

    def start_all(self) -> list[Instruction]:
        """Let every process that was asked for become ready, and those that are asked for then."""
        out: list[Instruction] = []
        while self.unstarted:
            token = self.unstarted.pop(0)
            out += self.tell(WorkerReady(token, 1000 + token))
        return out

    def want(
        self,
        count: int,
        resources: ResourceSet,
        client: int = DRIVER,
        key: int | str = "f",
        env: str = "",
    ) -> list[int]:
        """Ask for workers; return the tokens of those that are granted at once."""
        return granted(self.tell(LeaseWanted(client, key, plain(resources, env), count)))

    def pass_time(self, seconds: float) -> list[Instruction]:
        self.now_s += seconds
        return self.tell(Tick())


def granted(instructions: list[Instruction]) -> list[int]:
    return [i.token for i in instructions if isinstance(i, Grant)]


@pytest.fixture
def node() -> Iterator[Node]:
    """Two CPUs, and two workers that wait for work."""
    node = Node(cpus(2))
    node.tell(Tick())
    node.start_all()
    yield node
    node.scheduler.validate()


def test_a_worker_serves_only_the_environment_it_was_made_for(node: Node) -> None:
    assert node.want(1, cpus(1), key="e", env="packages") == []
    assert StartWorker(3, "packages") in node.said
    assert granted(node.start_all()) == [3]
    node.tell(LeaseReturned(DRIVER, 3))
    assert node.want(1, cpus(1)) == [2], "a plain demand gets a plain worker"
    assert node.want(1, cpus(1), key="e", env="packages") == [3], "and the other one is kept for its like"


def test_an_environment_gets_its_process_even_while_others_hold_the_resources(node: Node) -> None:
    first, second = node.want(10, cpus(1))
    node.want(1, cpus(1), client=OTHER, key="e", env="packages")
    assert node.unstarted == [3]
    node.start_all()
    assert granted(node.tell(LeaseReturned(DRIVER, first))) == [first]
    out = node.tell(LeaseReturned(DRIVER, second))
    assert Grant(OTHER, "e", 3) in out, "its turn finds it ready"


def test_idle_workers_of_other_environments_make_room() -> None:
    node = Node(cpus(2), pool_size=2, workers_max=2)
    node.tell(Tick())
    node.start_all()
    node.want(1, cpus(1), key="e", env="packages")
    (end,) = [i for i in node.said if isinstance(i, EndWorker)]
    assert end.gently and "another environment" in end.reason
    node.tell(WorkerDied(end.token))
    assert granted(node.start_all()) == [3]


def test_whoever_waits_for_an_environment_that_cannot_be_made_hears_why(node: Node) -> None:
    node.want(1, cpus(1), key="e", env="packages")
    node.want(5, cpus(1), key="f")
    out = node.tell(EnvironmentFailed("packages", "no such package"))
    assert Infeasible(DRIVER, "e", None, "environment", "no such package") in out
    assert [demand.class_key for demand in node.scheduler.waiting()] == ["f"]


def test_an_environment_is_prepared_once_and_before_its_workers_are_started(node: Node) -> None:
    node.prepares = False
    for key in ("e", "f"):
        node.want(1, cpus(1), key=key, env="packages")
    assert [i for i in node.said if isinstance(i, PrepareEnvironment)] == [PrepareEnvironment("packages")]
    assert not node.unstarted
    assert len(node.want(2, cpus(1), client=OTHER, key="g")) == 2, "others go on"
    node.tell(EnvironmentReady("packages"))
    assert node.unstarted == [3]


def test_an_environment_that_failed_is_prepared_anew_for_the_next_who_wants_it(node: Node) -> None:
    node.want(1, cpus(1), key="e", env="packages")
    node.tell(EnvironmentFailed("packages", "its hook raised"))
    node.tell(WorkerDied(node.unstarted.pop()))
    assert node.pass_time(1) == [], "nobody wants it"
    node.want(1, cpus(1), key="e", env="packages")
    assert node.said.count(PrepareEnvironment("packages")) == 2
    assert node.unstarted == [4], "and without a pause: plain workers are not to blame"


def test_the_pool_can_be_for_an_environment() -> None:
    node = Node(cpus(2), pool_size=2)
    node.prepares = False
    node.tell(PoolWanted("packages"))
    assert not node.unstarted
    node.tell(EnvironmentReady("packages"))
    assert node.said[-2:] == [StartWorker(1, "packages"), StartWorker(2, "packages")]


def test_the_pool_is_started_before_anybody_asks() -> None:
    node = Node(cpus(2), pool_size=2)
    assert node.tell(Tick()) == [StartWorker(1), StartWorker(2)]
    assert node.tell(Tick()) == []


def test_a_demand_waits_for_the_process_that_is_being_started() -> None:
    node = Node(cpus(2), pool_size=2)
    node.tell(Tick())
    assert node.want(1, cpus(1)) == []
    assert node.tell(WorkerReady(1, 1001)) == [Grant(DRIVER, "f", 1)]


def test_no_more_workers_are_granted_than_resources_allow(node: Node) -> None:
    assert len(node.want(5, cpus(1))) == 2
    assert node.scheduler.available == ResourceSet()
    assert granted(node.tell(LeaseReturned(DRIVER, 1))) == [1]


def test_fractions_of_a_cpu_add_up() -> None:
    node = Node(cpus(1), pool_size=1)
    node.tell(Tick())
    node.want(20, cpus(0.1))
    node.start_all()
    assert node.scheduler.slots.count(WorkerState.LEASED) == 10
    assert node.scheduler.available == ResourceSet()


def test_a_demand_is_an_absolute_number(node: Node) -> None:
    node.want(2, cpus(2))
    node.want(1, cpus(2))
    node.want(0, cpus(2))
    assert node.scheduler.waiting() == []


def test_what_can_never_be_met_is_refused_at_once(node: Node) -> None:
    out = node.tell(LeaseWanted(DRIVER, "f", plain(cpus(999)), 1))
    cause = "it needs {CPU: 999}, and the node has {CPU: 2} in total"
    assert out == [Infeasible(DRIVER, "f", None, "infeasible", cause)]
    out = node.tell(ActorWanted(DRIVER, "a", plain(cpus(1)), ResourceSet.from_floats({"GPU": 1})))
    cause = "it needs {GPU: 1}, and the node has {CPU: 2} in total"
    assert out == [Infeasible(DRIVER, "", "a", "infeasible", cause)]
    assert node.scheduler.waiting() == []


def test_clients_take_turns(node: Node) -> None:
    node.want(2, cpus(1), client=9, key="holder")
    for client in (DRIVER, OTHER):
        for key in ("f", "g"):
            node.want(10, cpus(1), client=client, key=key)
    turns = []
    for token in (1, 2, 1, 2):
        slot = node.scheduler.slots.get(token)
        assert slot is not None
        (grant,) = (i for i in node.tell(LeaseReturned(slot.holder, token)) if isinstance(i, Grant))
        turns.append((grant.client, grant.class_key))
    assert turns == [(DRIVER, "f"), (OTHER, "f"), (DRIVER, "g"), (OTHER, "g")]


def test_a_small_demand_may_pass_a_large_one_that_does_not_fit(node: Node) -> None:
    node.want(1, cpus(1))
    assert node.want(1, cpus(2), key="large") == []
    assert len(node.want(1, cpus(1), client=OTHER)) == 1


def test_a_blocked_worker_gives_back_its_cpu_and_only_that() -> None:
    node = Node(cpus(1, GPU=1), pool_size=1)
    node.tell(Tick())
    node.start_all()
    (parent,) = node.want(1, cpus(1, GPU=1))
    node.tell(WorkerBlocked(parent))
    assert node.scheduler.available == cpus(1)
    node.want(1, cpus(1), client=1000 + parent, key="child")
    (child,) = granted(node.start_all())
    assert node.want(1, cpus(0, GPU=1), client=OTHER) == []
    node.tell(WorkerUnblocked(parent))
    assert node.scheduler.available["CPU"] == -cpus(1)["CPU"]
    node.tell(LeaseReturned(1000 + parent, child))
    assert node.scheduler.available == ResourceSet()


def test_a_worker_that_runs_nothing_more_holds_nothing() -> None:
    node = Node(cpus(1, GPU=1), pool_size=1)
    node.tell(Tick())
    node.start_all()
    (parent,) = node.want(1, cpus(1, GPU=1))
    node.tell(WorkerBlocked(parent, for_good=True))
    assert node.scheduler.available == cpus(1, GPU=1)
    node.want(1, cpus(0, GPU=1), client=1000 + parent, key="child")
    assert granted(node.start_all())
    node.tell(WorkerDied(parent))
    assert node.scheduler.available == cpus(1)


def test_recursion_100_deep_on_two_cpus_finishes() -> None:
    node = Node(cpus(2), pool_size=2)
    node.tell(Tick())
    node.start_all()
    (worker,) = node.want(1, cpus(1))
    chain = [worker]
    for _ in range(100):
        parent = 1000 + chain[-1]
        node.tell(WorkerBlocked(chain[-1]))
        grants = node.want(1, cpus(1), client=parent, key="child") or granted(node.start_all())
        chain += grants
    assert len(chain) == 101
    assert len(node.scheduler.slots) <= 2 + 101
    for child, parent in zip(reversed(chain[1:]), reversed(chain[:-1]), strict=True):
        node.tell(WorkerUnblocked(parent))
        node.tell(LeaseReturned(1000 + parent, child))
    node.tell(LeaseReturned(DRIVER, worker))
    assert node.scheduler.available == cpus(2)


def test_children_of_waiting_parents_come_before_new_parents(node: Node) -> None:
    first, second = node.want(10, cpus(1))
    node.want(5, cpus(1), client=1000 + first, key="child")
    out = node.tell(WorkerBlocked(first)) + node.start_all()
    assert [i.client for i in out if isinstance(i, Grant)] == [1000 + first]
    assert second


def test_but_they_do_not_starve_the_others() -> None:
    node = Node(cpus(1), pool_size=1)
    node.tell(Tick())
    node.start_all()
    (actor_like,) = node.want(1, cpus(1), client=9)
    node.tell(WorkerBlocked(actor_like))
    node.want(1, cpus(1))
    out = node.start_all()
    served = [i.client for i in out if isinstance(i, Grant)]
    for _ in range(module.FAVOURS_IN_A_ROW_MAX + 2):
        node.want(1, cpus(1), client=1000 + actor_like, key="child")
        busy = next(s for s in node.scheduler.slots if s.state is WorkerState.LEASED)
        out = node.tell(LeaseReturned(busy.holder, busy.token))
        served += [i.client for i in out if isinstance(i, Grant)]
        if served[-1] != DRIVER:
            node.want(1, cpus(1))
    assert served.count(DRIVER) >= 2


def test_holders_of_idle_leases_are_asked_for_them(node: Node) -> None:
    node.want(2, cpus(1))
    out = node.tell(LeaseWanted(OTHER, "g", plain(cpus(1)), 1))
    assert out == [Reclaim(DRIVER, "f")]
    assert node.tell(LeaseWanted(OTHER, "g", plain(cpus(1)), 2)) == [], "asked once"
    assert node.pass_time(2 * sharing.REPEAT_S) == [Reclaim(DRIVER, "f")], "and again after a while"
    assert granted(node.tell(LeaseReturned(DRIVER, 1))) == [1]


def test_nobody_is_asked_for_what_would_not_help() -> None:
    node = Node(cpus(2, GPU=1), pool_size=2)
    node.tell(Tick())
    node.start_all()
    node.want(1, cpus(0, GPU=1), client=9, key="gpu")
    node.want(1, cpus(1), client=8)
    out = node.tell(LeaseWanted(OTHER, "g", plain(cpus(0, GPU=1)), 1))
    assert out == [Reclaim(9, "gpu")]


def test_a_demand_does_not_reclaim_from_itself(node: Node) -> None:
    node.want(2, cpus(1))
    assert node.tell(LeaseWanted(DRIVER, "f", plain(cpus(1)), 5)) == []


def test_a_dead_worker_loses_its_lease_and_is_replaced(node: Node) -> None:
    (token,) = node.want(1, cpus(2))
    out = node.tell(WorkerDied(token))
    assert [type(i) for i in out] == [StartWorker]
    assert node.scheduler.available == cpus(2)


def test_the_tasks_of_a_dead_worker_die_with_it(node: Node) -> None:
    parent, _ = node.want(2, cpus(1))
    node.tell(WorkerBlocked(parent))
    node.start_all()
    (child,) = node.want(3, cpus(1), client=1000 + parent, key="child")
    out = node.tell(WorkerDied(parent))
    assert [i.token for i in out if isinstance(i, EndWorker)] == [child]
    assert node.scheduler.waiting() == []
    node.tell(LeaseReturned(1000 + parent, child))
    assert node.scheduler.available == ResourceSet(), "its CPU is free when it is really gone"
    node.tell(WorkerDied(child))
    assert node.scheduler.available == cpus(1)


def test_a_client_that_dies_leaves_nothing(node: Node) -> None:
    tokens = node.want(5, cpus(1))
    out = node.tell(ClientDied(DRIVER))
    assert sorted(i.token for i in out if isinstance(i, EndWorker)) == sorted(tokens)
    for token in tokens:
        node.tell(WorkerDied(token))
    assert node.scheduler.available == cpus(2) and node.scheduler.waiting() == []


def test_an_actor_needs_more_to_start_than_it_keeps(node: Node) -> None:
    out = node.tell(ActorWanted(DRIVER, "a", plain(cpus(1)), ResourceSet()))
    assert [i for i in out if isinstance(i, PlaceActor)] == [PlaceActor("a", 2)]
    assert node.scheduler.available == cpus(2)
    assert [type(i) for i in out] == [PlaceActor, StartWorker], "the pool is filled up again"


def test_any_number_of_actors_that_hold_nothing_get_a_process() -> None:
    node = Node(cpus(1), pool_size=1)
    for number in range(50):
        node.tell(ActorWanted(DRIVER, f"a{number}", plain(cpus(1)), ResourceSet()))
    node.start_all()
    assert node.scheduler.slots.count(WorkerState.ACTOR) == 50


def test_an_actor_that_holds_its_cpu_takes_it_until_it_dies(node: Node) -> None:
    node.tell(ActorWanted(DRIVER, "a", plain(cpus(2)), cpus(2)))
    assert node.want(1, cpus(1)) == []
    slot = next(s for s in node.scheduler.slots if s.actor == "a")
    node.start_all()
    assert granted(node.tell(WorkerDied(slot.token)))


def test_an_actor_waits_for_a_free_cpu_even_if_it_keeps_none(node: Node) -> None:
    tokens = node.want(2, cpus(1))
    out = node.tell(ActorWanted(DRIVER, "a", plain(cpus(1)), ResourceSet()))
    assert out == [Reclaim(DRIVER, "f")]
    out = node.tell(LeaseReturned(DRIVER, tokens[0]))
    assert PlaceActor("a", tokens[0]) in out


def test_an_actor_can_be_withdrawn(node: Node) -> None:
    node.want(2, cpus(1))
    node.tell(ActorWanted(DRIVER, "a", plain(cpus(1)), ResourceSet()))
    node.tell(ActorWithdrawn("a"))
    assert node.scheduler.waiting() == []


def test_idle_workers_beyond_the_pool_are_ended_after_a_while(node: Node) -> None:
    parent, other = node.want(2, cpus(1))
    node.tell(WorkerBlocked(parent))
    node.start_all()
    node.tell(WorkerUnblocked(parent))
    for token in (parent, other):
        node.tell(LeaseReturned(DRIVER, token))
    assert len(node.scheduler.slots) == 3
    deadline_s = node.scheduler.deadline_s()
    assert deadline_s == node.now_s + module.IDLE_TIMEOUT_S
    out = node.pass_time(module.IDLE_TIMEOUT_S)
    assert [(type(i), i.gently) for i in out if isinstance(i, EndWorker)] == [(EndWorker, True)]
    node.tell(WorkerDied(out[0].token))  # type: ignore[union-attr]
    assert node.scheduler.deadline_s() is None


def test_an_idle_worker_that_owns_an_actor_is_kept(node: Node) -> None:
    owner, other = node.want(2, cpus(1))
    node.tell(LeaseReturned(DRIVER, owner))
    out = node.tell(ActorWanted(1000 + owner, "a", plain(cpus(1)), ResourceSet()))
    assert PlaceActor("a", owner) in out or any(isinstance(i, PlaceActor) for i in out)
    node.start_all()
    node.tell(LeaseReturned(DRIVER, other))
    ended = [i.token for i in node.pass_time(60.0) if isinstance(i, EndWorker)]
    assert owner not in ended


def test_processes_that_die_at_once_are_started_again_more_and_more_slowly() -> None:
    node = Node(cpus(1), pool_size=1)
    node.tell(Tick())
    pauses = []
    for _ in range(10):
        token = node.unstarted.pop()
        assert node.tell(WorkerDied(token)) == []
        deadline_s = node.scheduler.deadline_s()
        assert deadline_s is not None
        pauses.append(round(deadline_s - node.now_s, 3))
        node.pass_time(pauses[-1])
    assert pauses[:3] == [0.05, 0.1, 0.2] and pauses[-1] == 5.0


def test_a_process_that_never_gets_ready_is_given_up(node: Node) -> None:
    node.tell(WorkerDied(1))
    node.pass_time(1.0)
    (token,) = node.unstarted
    out = node.pass_time(module.START_TIMEOUT_S + 1)
    assert [i.token for i in out if isinstance(i, EndWorker)] == [token]


def test_a_doomed_worker_gets_no_more_work(node: Node) -> None:
    node.tell(WorkerDoomed(2))
    assert node.want(1, cpus(1)) == [1]


def test_tasks_without_resources_have_a_limit_of_their_own() -> None:
    node = Node(cpus(1), pool_size=1)
    node.want(10_000, ResourceSet())
    node.start_all()
    assert node.scheduler.slots.count(WorkerState.LEASED) == starting.FREE_LEASES_MAX


@pytest.mark.parametrize(
    "event",
    [
        WorkerReady(77, 5),
        WorkerReady(1, 5),
        WorkerDied(77),
        WorkerDoomed(77),
        WorkerBlocked(1),
        WorkerBlocked(77),
        WorkerUnblocked(77),
        LeaseReturned(DRIVER, 77),
        LeaseReturned(OTHER, 1),
    ],
)
def test_nonsense_is_written_down_and_dropped(node: Node, event: Event) -> None:
    before = repr(list(node.scheduler.slots))
    (complaint,) = node.tell(event)
    assert isinstance(complaint, Complain) and type(event).__name__ in complaint.text
    assert repr(list(node.scheduler.slots)) == before
