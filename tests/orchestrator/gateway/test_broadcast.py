"""Who gets an object from whom."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.gateway.broadcast import Assigned, Broadcast, Instruction, Unavailable

LARGE, SMALL = 1 << 30, 1 << 10


def parents(out: list[Instruction]) -> dict[int, int]:
    return {one.node: one.source for one in out if isinstance(one, Assigned)}


def started(size: int = LARGE, root: int = 1, **limits: int) -> Broadcast:
    broadcast = Broadcast(size, **limits)
    broadcast.copied(root)
    return broadcast


def test_a_large_object_goes_along_a_chain() -> None:
    broadcast = started()
    assert [parents(broadcast.wanted(node)) for node in (2, 3, 4)] == [{2: 1}, {3: 2}, {4: 3}]


def test_a_small_object_goes_to_all_at_once() -> None:
    broadcast = started(SMALL)
    assert [parents(broadcast.wanted(node)) for node in (2, 3, 4)] == [{2: 1}, {3: 1}, {4: 1}]


def test_a_chain_that_is_long_enough_branches_near_the_root() -> None:
    broadcast = started(chain_max=2)
    found = {}
    for node in range(2, 7):
        found |= parents(broadcast.wanted(node))
    assert found == {2: 1, 3: 2, 4: 1, 5: 4, 6: 2}


def test_who_has_it_serves_the_next_one() -> None:
    broadcast = started(fanout_max=1, chain_max=1)
    assert parents(broadcast.wanted(2)) == {2: 1}
    broadcast.copied(2)
    assert parents(broadcast.wanted(3)) == {3: 1}
    assert parents(broadcast.wanted(4)) == {4: 2}


def test_the_others_that_have_it_are_named() -> None:
    broadcast = started()
    broadcast.copied(2)
    [assigned] = broadcast.wanted(3)
    assert assigned == Assigned(3, 1, (2,))
    assert broadcast.wanted(3) == [assigned]
    assert broadcast.wanted(2) == []


def test_orphans_are_given_other_parents_and_keep_their_children() -> None:
    broadcast = started()
    for node in (2, 3, 4):
        broadcast.wanted(node)
    assert parents(broadcast.gone(2)) == {3: 1}
    assert parents(broadcast.wanted(4)) == {4: 3}


def test_a_parent_is_never_below_its_child() -> None:
    broadcast = started()
    broadcast.copied(9)
    for node in (2, 3, 4):
        broadcast.wanted(node)
    chains = {node: parents(broadcast.wanted(node))[node] for node in (2, 3, 4)}
    out = parents(broadcast.gone(chains[2]))
    assert out[2] not in (2, *(node for node in (3, 4) if chains[node] == 2))
    broadcast.validate()


def test_a_source_that_fails_is_not_given_again_if_there_is_another() -> None:
    broadcast = started()
    broadcast.copied(2)
    assert parents(broadcast.wanted(3)) == {3: 1}
    assert parents(broadcast.failed(3, 1)) == {3: 2}
    assert broadcast.failed(3, 1) == []
    broadcast.gone(1)
    assert parents(broadcast.failed(3, 2)) == {3: 2}


def test_what_nobody_has_is_unavailable_until_somebody_has_it() -> None:
    broadcast = Broadcast(LARGE)
    assert broadcast.wanted(2) == [Unavailable(2)]
    assert broadcast.receivers == ()
    broadcast.copied(1)
    assert parents(broadcast.wanted(2)) == {2: 1}
    assert broadcast.gone(1) == [Unavailable(2)]


def test_one_that_wants_it_no_more_leaves_its_place_to_others() -> None:
    broadcast = started(fanout_max=1, chain_max=1)
    broadcast.wanted(2)
    broadcast.wanted(3)
    assert parents(broadcast.unwanted(2)) == {3: 1}
    broadcast.copied(3)
    assert broadcast.unwanted(3) == []
    assert broadcast.roots == (1, 3)


def ticks(nodes: int, stretches: int, size: int = LARGE, **limits: int) -> tuple[int, int]:
    """Have the object reach all nodes, each of which sends one stretch a tick in all.

    Returns (ticks, most children).
    """
    broadcast = started(size, root=0, **limits)
    has = [stretches, *[0] * nodes]
    parent: dict[int, int] = {}
    for node in range(1, nodes + 1):
        parent |= parents(broadcast.wanted(node))
    most = 0
    tick = 0
    while broadcast.receivers:
        children: dict[int, list[int]] = {}
        for child, source in parent.items():
            children.setdefault(source, []).append(child)
        before = list(has)
        done = []
        for source, ones in children.items():
            most = max(most, len(ones))
            child = ones[tick % len(ones)]
            if before[source] > has[child]:
                has[child] += 1
                if has[child] == stretches:
                    done.append(child)
        for child in done:
            del parent[child]
            parent |= parents(broadcast.copied(child))
        tick += 1
        assert tick < 100 * stretches
    return tick, most


@pytest.mark.parametrize("nodes", [1, 8, 16])
def test_up_to_a_chain_of_nodes_have_a_large_object_little_later_than_one(nodes: int) -> None:
    assert ticks(nodes, 200)[0] <= 200 + nodes


@pytest.mark.parametrize("nodes", [100, 400])
def test_many_nodes_have_it_in_little_more_than_twice_the_time_of_one(nodes: int) -> None:
    time, most = ticks(nodes, 200)
    assert time <= 2.5 * 200
    assert most <= 2


@pytest.mark.parametrize("nodes", [1, 7, 63, 511])
def test_a_small_object_takes_log_n_rounds(nodes: int) -> None:
    # With two children each, who are sent to one after the other: two rounds for each level of a binary tree.
    assert ticks(nodes, 1, SMALL, fanout_max=2)[0] <= 2 * (nodes + 1).bit_length()


class BroadcastMachine(RuleBasedStateMachine):
    """Anything may be said at any time, true or not."""

    def __init__(self) -> None:
        super().__init__()
        self.broadcast = Broadcast(LARGE, chain_max=3)

    nodes = st.integers(1, 9)

    @rule(node=nodes)
    def want(self, node: int) -> None:
        out = self.broadcast.wanted(node)
        assert node in self.broadcast.roots or out or node in self.broadcast.receivers

    @rule(node=nodes)
    def copy(self, node: int) -> None:
        self.broadcast.copied(node)
        assert node in self.broadcast.roots

    @rule(node=nodes, source=nodes)
    def fail(self, node: int, source: int) -> None:
        self.broadcast.failed(node, source)

    @rule(node=nodes)
    def die(self, node: int) -> None:
        self.broadcast.gone(node)
        assert node not in (*self.broadcast.roots, *self.broadcast.receivers)

    @rule(node=nodes)
    def leave(self, node: int) -> None:
        self.broadcast.unwanted(node)

    @invariant()
    def holds(self) -> None:
        self.broadcast.validate()


TestBroadcastMachine = BroadcastMachine.TestCase
TestBroadcastMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
