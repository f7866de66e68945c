"""No object goes while somebody refers to it, and none stays: whatever the order of events, and whoever
dies."""

from __future__ import annotations

import pytest

from orchestrator.gateway.directory import Directory
from tests.simulation import directory_world
from tests.simulation.seeds import find_failure, run_all

SEEDS_PER_TEST = 50


@pytest.mark.parametrize("first", range(0, 200, SEEDS_PER_TEST))
def test_references_across_nodes(first: int) -> None:
    run_all("directory", directory_world.run, range(first, first + SEEDS_PER_TEST))


@pytest.mark.parametrize(
    "method", ["want", "gave", "unneeded", "released", "pulled", "node_drains", "node_died"]
)
def test_the_checks_see_what_is_not_done(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, method, lambda *_: [])
    find_failure(directory_world.run, range(30))
