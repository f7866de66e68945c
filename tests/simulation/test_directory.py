"""No object goes while somebody refers to it, and none stays: whatever the order of events, and whoever
dies."""

from __future__ import annotations

import pytest

from orchestrator.gateway.directory import Directory
from tests.simulation import directory_world

SEEDS_PER_TEST = 50


@pytest.mark.parametrize("first", range(0, 200, SEEDS_PER_TEST))
def test_references_across_nodes(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            directory_world.run(seed)
        except Exception as exc:
            raise AssertionError(
                f"seed {seed}: python tools/simulate.py --only directory --seed {seed}"
            ) from exc


@pytest.mark.parametrize(
    "method", ["want", "gave", "unneeded", "released", "pulled", "node_drains", "node_died"]
)
def test_the_checks_see_what_is_not_done(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, method, lambda *_: [])
    for seed in range(30):
        try:
            directory_world.run(seed)
        except AssertionError:
            return
    raise AssertionError("nothing was noticed")
