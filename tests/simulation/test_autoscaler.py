"""The autoscaler among providers that fail, and killed between any two steps; and that the checks see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.autoscaler import planner
from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.instances import Change, Instance
from orchestrator.autoscaler.reconciler import Reconciler, Terminate
from tests.simulation import autoscaler_world
from tests.simulation.seeds import find_failure, run_all

SEEDS_PER_TEST = 6


@pytest.mark.parametrize("first", range(0, 24, SEEDS_PER_TEST))
def test_what_must_hold_holds(first: int) -> None:
    run_all("autoscaler", autoscaler_world.run, range(first, first + SEEDS_PER_TEST))


def end_without_telling(self: Reconciler, one: Instance, cause: str) -> None:
    self._change(one, Change.END, cause)
    self.instances.change(one, Change.GONE, self._now_s, cause)


def always(self: planner._Planner, one: NodeType) -> int:
    return 100


def change_without_draining(self: Reconciler, one: Instance, change: Change, cause: str = "") -> None:
    self.instances.change(one, change, self._now_s, cause)
    if change is Change.DRAIN:
        self.instances.change(one, Change.END, self._now_s, cause)
        self._out.append(Terminate(one.provider_id, cause))


BUGS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "a machine is forgotten": (Reconciler, "_end", end_without_telling),
    "limits are none": (planner._Planner, "_left", always),
    "a node goes without being drained": (Reconciler, "_change", change_without_draining),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_checks_see(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BUGS[bug])
    find_failure(autoscaler_world.run, range(9), (AssertionError, KeyError))
