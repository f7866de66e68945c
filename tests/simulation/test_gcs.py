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
from orchestrator.testing.sim_network import Faults
from tests.simulation import gcs_world
from tests.simulation.seeds import run_all

SEEDS_PER_TEST = 10


@pytest.mark.parametrize("first", range(0, 200, SEEDS_PER_TEST))
def test_what_must_hold_holds(first: int, rounds: Callable[[int, int], int]) -> None:
    run_all("gcs", gcs_world.run, range(first, first + SEEDS_PER_TEST))


def test_the_same_seed_is_the_same_run() -> None:
    stories = []
    for _ in range(2):
        world = gcs_world.World(5)
        for _ in range(40):
            world.act()
            world.clock.run(0.3)
        stories.append([node.story for node in world.nodes])
    assert stories[0] == stories[1] and any(stories[0])


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_who_dies_while_the_head_is_killed_again_and_again_is_declared_dead(is_cut_off: bool) -> None:
    """Each life of the head is shorter than the time that nodes have to come back to it."""
    world = gcs_world.World(1)
    world.network.faults = Faults()
    world.start_node()
    world.clock.run(5.0, world.check)
    victim = world.living()[-1]
    others = [node for node in world.living() if node is not victim]
    assert len(others) > 1
    for life in range(5):
        world.head.kill()
        if life == 1:
            victim.die("killed")
        if is_cut_off:
            world.network.cut("head", victim.name)
        world.clock.run(0.5)
        world.restart_head()
        world.clock.run(4.0, world.check)
    record = world.head.head.nodes.get(victim.index)
    assert record is not None and record.is_member == is_cut_off
    # Of a machine that does not even refuse nothing is known. When the head lives on, its silence counts.
    world.clock.run(gcs_world.POLICY.dead_s, world.check)
    assert not record.is_member
    assert all(victim.index not in node.view.nodes for node in others)
    assert {node.index for node in others} == {one.index for one in world.head.head.nodes.members()}


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
