"""Actors from their creation to their end, in many histories; and that the checks see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.scheduling.actor_table import (
    ActorRecord,
    ActorState,
    ActorTable,
    Instruction,
    RequestPlacement,
)
from tests.simulation import actors_world
from tests.simulation.seeds import find_failure, run_all

SEEDS_PER_TEST = 50
client_died, end = ActorTable.client_died, ActorTable.end


@pytest.mark.parametrize("first", range(0, 200, SEEDS_PER_TEST))
def test_what_must_hold_holds(first: int) -> None:
    run_all("actors", actors_world.run, range(first, first + SEEDS_PER_TEST))


def believe_what_is_said(self: ActorTable, worker: int, said: str | None = None) -> str | None:
    return self._workers.get(worker, said)


def keep_asking(self: ActorTable, *args: Any, **kwargs: Any) -> list[Instruction]:
    return [one for one in end(self, *args, **kwargs) if type(one).__name__ != "WithdrawPlacement"]


def tell_nobody(self: ActorTable, record: ActorRecord) -> list[Instruction]:
    record.waiters = {}
    return []


def count_moves(self: ActorTable, record: ActorRecord) -> list[Instruction]:
    record.state, record.is_moving = ActorState.RESTARTING, False
    record.restarts += 1
    del self._workers[record.worker]
    record.worker = 0
    return [RequestPlacement(record.owner, record.spec, record.pause_s)]


def forget_owners(self: ActorTable, client: int, report: dict[str, Any] | None) -> list[Instruction]:
    return client_died(self, client, report) if client in self._workers else []


BUGS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "a late word about another process ends it": (ActorTable, "of_worker", believe_what_is_said),
    "a request stays when its actor is dead": (ActorTable, "end", keep_asking),
    "who waits is forgotten": (ActorTable, "_answer_waiters", tell_nobody),
    "a move counts as a restart": (ActorTable, "_restart", count_moves),
    "actors outlive their owners": (ActorTable, "client_died", forget_owners),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_checks_see(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BUGS[bug])
    find_failure(actors_world.run, range(200))
