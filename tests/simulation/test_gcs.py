"""The Global Control Store while heads and nodes die and the network lies; and that the checks see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from orchestrator.gcs import group_records
from orchestrator.gcs.answered import AnsweredTable
from orchestrator.gcs.commit_queue import CommitQueue
from orchestrator.gcs.effects import Effect, Write
from orchestrator.gcs.jobs import JobTable
from orchestrator.gcs.names import NameTable
from orchestrator.gcs.nodes import NodeTable
from orchestrator.gcs.placement_groups import GroupTable
from tests.simulation import gcs_world

SEEDS_PER_TEST = 10


@pytest.mark.parametrize("first", range(0, 200, SEEDS_PER_TEST))
def test_what_must_hold_holds(first: int, rounds: Callable[[int, int], int]) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            gcs_world.run(seed)
        except Exception as exc:
            raise AssertionError(f"seed {seed}: python tools/simulate.py --only gcs --seed {seed}") from exc


def test_the_same_seed_is_the_same_run() -> None:
    stories = []
    for _ in range(2):
        world = gcs_world.World(5)
        for _ in range(40):
            world.act()
            world.clock.run(0.3)
        stories.append([node.story for node in world.nodes])
    assert stories[0] == stories[1] and any(stories[0])


def fails_within(seeds: int) -> bool:
    for seed in range(seeds):
        try:
            gcs_world.run(seed)
        except (AssertionError, KeyError):
            return True
    return False


def speak_first(self: CommitQueue, effects: Iterable[Effect]) -> list[Effect]:
    self._writes += [effect for effect in effects if isinstance(effect, Write)]
    return [effect for effect in effects if not isinstance(effect, Write)]


def commit_at_once(self: GroupTable, record: group_records.GroupRecord) -> list[Effect]:
    for part in record.parts.values():
        if part.state in group_records.UNDECIDED:
            part.state = group_records.PartState.COMMITTING
    record.state = group_records.GroupState.CREATED
    return []


BUGS = {
    "what is said before it is stored": (CommitQueue, "add", speak_first),
    "a request that takes effect twice": (AnsweredTable, "find", lambda self, call: None),
    "a group that is committed before all have prepared": (GroupTable, "_decide", commit_at_once),
    "a node that is not told again what it missed": (GroupTable, "resume", lambda self, node: []),
    "bundles of a dead node that count on": (GroupTable, "node_died", lambda self, node: []),
    "a job whose end is said once": (JobTable, "resume", lambda self, node: []),
    "names that outlive their home": (NameTable, "home_died", lambda self, index: []),
    "an index that is used again": (NodeTable, "_take_index", lambda self, is_head: len(self.members()) + 1),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_simulation_finds(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BUGS[bug])
    assert fails_within(60)
