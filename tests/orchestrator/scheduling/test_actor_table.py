"""The life of actors, without any."""

from __future__ import annotations

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling import actor_table as module
from orchestrator.scheduling.actor_table import (
    ActorSpec,
    ActorTable,
    DropActor,
    HoldActor,
    KillActorWorker,
    RequestPlacement,
    Tell,
    WithdrawPlacement,
)

DRIVER, OTHER, WORKER = 1, 2, 100
NOTHING = ResourceSet()


def spec(
    actor: str = "aa", name: str | None = None, *, namespace: str = "n", detached: bool = False
) -> ActorSpec:
    return ActorSpec(
        actor, name, namespace, "Counter", SchedulingClass(NOTHING), NOTHING, "handle-" + actor, detached
    )


def restartable(max_restarts: int = 1, **changes: object) -> ActorSpec:
    return spec()._replace(max_restarts=max_restarts, constructor="kept", **changes)


def create(
    table: ActorTable, made: ActorSpec, client: int = DRIVER, **options: bool
) -> list[module.Instruction]:
    out = table.create(client, made, 7, get_if_exists=options.get("get_if_exists", False))
    table.validate()
    return out


def alive(made: ActorSpec | None = None, client: int = DRIVER) -> ActorTable:
    table = ActorTable()
    made = made or spec()
    create(table, made, client)
    table.placed(made.actor, WORKER)
    table.alive(made.actor, WORKER)
    table.validate()
    return table


def told(instructions: list[module.Instruction]) -> list[tuple[int, dict[str, object]]]:
    return [(i.client, i.message) for i in instructions if isinstance(i, Tell)]


def test_from_creation_to_the_first_call() -> None:
    table = ActorTable()
    assert create(table, spec()) == [RequestPlacement(DRIVER, spec())]
    assert table.resolve(OTHER, "aa") == [], "whoever asks early waits"
    ((client, message),) = told(table.placed("aa", WORKER))
    assert (client, message["op"], message["worker"], message["req"]) == (DRIVER, "actor_worker", WORKER, 7)
    ((client, message),) = told(table.alive("aa", WORKER))
    assert (client, message["state"], message["worker"]) == (OTHER, "alive", WORKER)
    ((_, message),) = told(table.resolve(OTHER, "aa"))
    assert message["state"] == "alive"
    table.validate()


def test_a_name_is_taken_once_per_namespace() -> None:
    table = alive(spec("aa", "counter"))
    ((_, answer),) = told(create(table, spec("bb", "counter")))
    assert answer["error"] == "exists" and answer["actor"] == "aa"
    assert isinstance(create(table, spec("cc", "counter", namespace="m"))[0], RequestPlacement)


def test_get_if_exists_answers_with_the_handle() -> None:
    table = alive(spec("aa", "counter"))
    ((client, answer),) = told(create(table, spec("bb", "counter"), OTHER, get_if_exists=True))
    assert client == OTHER and "error" not in answer
    assert (answer["found"], answer["actor"], answer["handle"]) == (True, "aa", "handle-aa")


def test_actors_are_found_by_name_until_they_die() -> None:
    table = alive(spec("aa", "counter"))
    ((_, answer),) = told(table.find(OTHER, "counter", "n", 3))
    assert answer == {"op": "reply", "req": 3, "found": True, "actor": "aa", "handle": "handle-aa"}
    assert told(table.find(OTHER, "counter", "m", 4)) == [(OTHER, {"op": "reply", "req": 4, "found": False})]
    table.end("aa", "killed")
    table.validate()
    assert told(table.find(OTHER, "counter", "n", 5))[0][1]["found"] is False
    assert isinstance(create(table, spec("bb", "counter"))[0], RequestPlacement), "the name is free again"


def test_killing_an_actor_ends_its_worker_and_those_who_come_late_hear_why() -> None:
    table = alive()
    assert table.end("aa", "killed by the driver") == [KillActorWorker(WORKER, "killed by the driver")]
    assert table.end("aa", "again") == []
    ((_, message),) = told(table.resolve(OTHER, "aa"))
    assert (message["state"], message["cause"]) == ("dead", "killed by the driver")


def test_a_pending_actor_can_be_killed() -> None:
    table = ActorTable()
    create(table, spec())
    table.resolve(OTHER, "aa")
    out = table.end("aa", "changed my mind")
    assert out[0] == WithdrawPlacement("aa") and told(out)[0][1]["state"] == "dead"
    table.validate()
    assert table.placed("aa", WORKER) == [KillActorWorker(WORKER, "its actor is no longer wanted")]


def test_a_worker_that_dies_takes_its_actor_along_with_the_report() -> None:
    table = ActorTable()
    create(table, spec())
    table.placed("aa", WORKER)
    table.resolve(OTHER, "aa")
    report = {"reason": "killed by SIGSEGV", "signal": "SIGSEGV"}
    ((_, message),) = told(table.client_died(WORKER, report))
    assert message["cause"] == "killed by SIGSEGV" and message["report"] == report
    table.validate()


@pytest.mark.parametrize("detached", [False, True])
def test_an_actor_dies_with_its_owner_unless_it_is_detached(detached: bool) -> None:
    table = alive(spec(detached=detached), client=OTHER)
    out = table.client_died(OTHER, None)
    table.validate()
    assert bool(out) is not detached
    assert table.worker_of("aa") == (WORKER if detached else 0)


def test_what_can_never_be_placed_is_told_to_the_creator_and_to_who_waits() -> None:
    table = ActorTable()
    create(table, spec())
    table.resolve(OTHER, "aa")
    (to_creator, to_other) = told(table.infeasible("aa", "infeasible", "it needs 9, there are 2"))
    assert (to_creator[1]["error"], to_creator[1]["cause"]) == ("infeasible", "it needs 9, there are 2")
    assert to_other == (OTHER, to_other[1]) and to_other[1]["state"] == "dead"
    table.validate()


def test_only_its_own_worker_can_say_that_an_actor_is_alive() -> None:
    table = ActorTable()
    create(table, spec())
    table.placed("aa", WORKER)
    table.resolve(OTHER, "aa")
    assert table.alive("aa", OTHER) == []
    assert table.alive("zz", OTHER) == []


def test_unknown_actors_are_dead() -> None:
    ((_, message),) = told(ActorTable().resolve(DRIVER, "zz"))
    assert message["state"] == "dead" and "does not know" in str(message["cause"])


def test_the_dead_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_MAX", 3)
    table = ActorTable()
    for number in range(10):
        create(table, spec(f"a{number}"))
        table.end(f"a{number}", "done")
        table.validate()
    assert [entry["actor"] for entry in table.listing()] == ["a7", "a8", "a9"]


def test_an_actor_whose_process_dies_is_restarted_from_its_kept_constructor() -> None:
    table = alive(restartable())
    assert table.client_died(WORKER, {"reason": "killed"}) == [RequestPlacement(DRIVER, restartable())]
    assert table.fate("aa") == {"restarting": True, "restarts": 1}
    table.validate()
    assert table.resolve(OTHER, "aa") == [], "its callers wait"
    order = {"op": "restart_actor", "actor": "aa", "constructor": "kept", "restarts": 1}
    assert table.placed("aa", WORKER + 1) == [Tell(WORKER + 1, order)]
    table.validate()
    ((client, message),) = told(table.alive("aa", WORKER + 1))
    assert (client, message["state"], message["worker"]) == (OTHER, "alive", WORKER + 1)
    table.client_died(WORKER + 1, {"reason": "killed again"})
    assert table.fate("aa") == {"restarting": False, "restarts": 1}, "one restart, not two"
    table.validate()


def test_a_late_word_about_a_process_that_was_meant_for_it_does_not_end_it() -> None:
    """A node was silent: another gave a process in its stead, and it has given one, too, which died."""
    table = alive(restartable(-1))
    assert table.of_worker(WORKER, "aa") == "aa"
    assert table.of_worker(WORKER + 1, "aa") is None
    table.end("aa", "killed")
    assert table.of_worker(WORKER, "aa") == table.of_worker(WORKER + 1, "aa") == "aa", "they are told why"
    assert table.of_worker(WORKER, "never heard of") is None


def test_an_actor_may_be_restarted_for_ever() -> None:
    table = alive(restartable(-1))
    for worker in range(WORKER, WORKER + 20):
        assert isinstance(table.client_died(worker, None)[0], RequestPlacement)
        table.placed("aa", worker + 1)
        table.validate()


def test_it_can_die_while_it_waits_for_a_restart() -> None:
    table = alive(restartable())
    table.client_died(WORKER, None)
    table.resolve(OTHER, "aa")
    out = table.end("aa", "killed")
    assert out[0] == WithdrawPlacement("aa") and told(out)[0][1]["state"] == "dead"
    table.validate()


def test_it_is_not_restarted_without_its_owner() -> None:
    table = alive(restartable(-1), client=OTHER)
    assert table.client_died(OTHER, None)[0] == KillActorWorker(WORKER, "the process that created it is gone")
    assert table.client_died(WORKER, None) == []
    table.validate()


def test_an_end_of_its_own_accord_is_no_accident() -> None:
    table = alive(restartable(-1))
    table.end("aa", "its constructor failed", init_failed=True)
    assert table.client_died(WORKER, None) == []
    told_to_all = {"restarting": False, "restarts": 0, "cause": "its constructor failed", "init_failed": True}
    assert table.fate("aa") == told_to_all
    table.validate()


def test_kill_with_restart_ends_the_worker_only() -> None:
    table = alive(restartable())
    assert table.end("aa", "killed", no_restart=False) == [KillActorWorker(WORKER, "killed")]
    assert isinstance(table.client_died(WORKER, None)[0], RequestPlacement)
    assert table.end("aa", "killed", no_restart=False) == [], "there is nothing to kill"
    table.validate()


def test_a_restart_that_can_never_be_placed_is_told_to_who_waits() -> None:
    table = alive(restartable())
    table.client_died(WORKER, None)
    table.resolve(OTHER, "aa")
    ((client, message),) = told(table.infeasible("aa", "infeasible", "no room"))
    assert client == OTHER and message["state"] == "dead"
    table.validate()


def test_the_node_keeps_detached_actors() -> None:
    table = ActorTable()
    made = spec(detached=True)
    hold, request, (_, answer) = create(table, made)
    assert (hold, request) == (HoldActor("aa"), RequestPlacement(0, made))
    assert answer["created"], "its creator need not wait for a process"
    assert table.end("aa", "killed")[-1] == DropActor("aa")


def test_a_detached_actor_is_made_from_the_store_as_its_creator_may_be_gone() -> None:
    table = ActorTable()
    made = spec(detached=True)._replace(constructor="kept")
    assert HoldActor("kept") in create(table, made)
    assert table.client_died(DRIVER, None) == []
    ((worker, order),) = told(table.placed("aa", WORKER))
    assert (worker, order["op"], order["constructor"]) == (WORKER, "restart_actor", "kept")
    assert DropActor("kept") in table.alive("aa", WORKER), "it is needed no more"
    table.validate()


def test_the_constructor_of_a_detached_actor_that_never_lived_is_let_go() -> None:
    table = ActorTable()
    create(table, spec(detached=True)._replace(constructor="kept"))
    assert DropActor("kept") in table.end("aa", "killed")


def test_the_constructor_of_a_detached_actor_that_may_be_restarted_is_kept_by_its_own_object() -> None:
    table = ActorTable()
    assert HoldActor("kept") not in create(table, restartable(detached=True))
    table.placed("aa", WORKER)
    assert DropActor("kept") not in table.alive("aa", WORKER)


def test_names_are_listed_by_namespace() -> None:
    table = alive(spec("aa", "one"))
    create(table, spec("bb", "two", namespace="m"))
    create(table, spec("cc", None))
    assert table.names("m") == [{"namespace": "m", "name": "two"}]
    assert [entry["name"] for entry in table.names(None)] == ["two", "one"]


def test_a_constructor_in_which_processes_die_is_not_run_in_a_tight_loop() -> None:
    table = ActorTable()
    create(table, restartable(-1))
    table.placed("aa", WORKER)
    pauses = []
    for worker in range(WORKER, WORKER + 40):
        (request,) = table.client_died(worker, None)
        assert isinstance(request, RequestPlacement) and table.wants_process("aa")
        pauses.append(request.pause_s)
        table.placed("aa", worker + 1)
    assert pauses[:3] == [0.05, 0.1, 0.2] and pauses[-1] == module.RESTART_PAUSE_S[1]
    table.alive("aa", WORKER + 40)
    (request,) = table.client_died(WORKER + 40, None)
    assert request == RequestPlacement(DRIVER, restartable(-1)), "once it was alive it may begin at once"
    table.end("aa", "killed")
    assert not table.wants_process("aa")
