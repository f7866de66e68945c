"""Nodes that lend to each other while messages are late and nodes die; and that the checks see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.scheduling.cluster.asks import Ask, AskBook, Wanted
from orchestrator.scheduling.cluster.lender import Lender, Want
from tests.simulation import leases_world
from tests.simulation.seeds import find_failure, run_all

SEEDS_PER_TEST = 5
asked = Lender.asked


@pytest.mark.parametrize("first", range(0, 25, SEEDS_PER_TEST))
def test_what_must_hold_holds(first: int) -> None:
    run_all("leases", leases_world.run, range(first, first + SEEDS_PER_TEST))


def forget_what_is_left(self: AskBook, one: Wanted, ask: Ask, left: int) -> None:
    ask.open = ask.told = left
    ask.promised = min(ask.promised, left)  # the view still counts them


def asked_without_counting(self: Lender, *args: Any, seen: int, **kwargs: Any) -> list[Want]:
    """Take grants under way for none: a number that crosses with them is too large."""
    record = self._records.get(args[1:3])
    return asked(self, *args, seen=seen if record is None else record.granted, **kwargs)


def forget_a_demand(self: AskBook, node: int) -> None:
    for key in [key for key, one in self.wanted.items() if node in one.asks]:
        del self.wanted[key]


def grant_and_want_the_same(self: AskBook, one: Wanted, ask: Ask) -> bool:
    ask.open = max(0, ask.open - 1)  # the client is served, and its demand stays what it was
    ask.told = max(0, ask.told - 1)
    return False


BUGS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "what is refused stays promised": (AskBook, "left", forget_what_is_left),
    "grants under way are not counted": (Lender, "asked", asked_without_counting),
    "a dead node takes demands along": (AskBook, "forget_node", forget_a_demand),
    "a grant counts for nothing": (AskBook, "granted", grant_and_want_the_same),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_checks_see(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BUGS[bug])
    find_failure(leases_world.run, range(30))
