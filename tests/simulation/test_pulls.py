"""Many pulls among nodes that die, lie, fill up and lose connections:

Each ends with the right bytes, or for a reason.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.common.priority import Priority
from orchestrator.transfer import events as ev
from orchestrator.transfer.pull_manager import PullManager
from tests.simulation.pulls_model import Simulation
from tests.simulation.pulls_world import simulate


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    nodes=st.integers(2, 6),
    objects=st.integers(1, 8),
    breaks=st.sampled_from([0.0, 0.05, 0.5]),
    deaths=st.integers(0, 2),
)
def test_every_pull_ends_with_the_right_bytes_or_for_a_reason(
    seed: int, nodes: int, objects: int, breaks: float, deaths: int
) -> None:
    simulate(seed, nodes=nodes, objects=objects, breaks=breaks, deaths=deaths)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_is_the_same_story(seed: int) -> None:
    first = simulate(seed, nodes=4, objects=4, breaks=0.1, deaths=1)
    again = simulate(seed, nodes=4, objects=4, breaks=0.1, deaths=1)
    assert first.now_s == again.now_s
    assert [node.reports for node in first.nodes.values()] == [node.reports for node in again.nodes.values()]


def test_without_failures_nothing_is_lost() -> None:
    for seed in range(20):
        sim = Simulation(seed)
        sim.breaks = sim.silent = sim.lies = 0.0
        data = Random(seed).randbytes(10_000)
        first, *others = [sim.add_node() for _ in range(5)]
        first.sealed[b"x" * 16] = data
        for node in others:
            node.want(b"x" * 16, [1], size=None)
        sim.run()
        assert all(node.sealed[b"x" * 16] == data for node in others)


@given(st.data())
def test_whatever_is_said_in_whatever_order_the_invariants_hold(data: st.DataObject) -> None:
    """Events that make no sense included:

    The store and the sources are not believed to say only what was asked.
    """
    pulls = PullManager(Random(0), bytes_max=10, streams_max=1, small_streams_max=2)
    ids, nodes = st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]), st.integers(1, 3)
    sizes, texts = st.integers(-1, 20), st.just("a reason")
    attempts: set[int] = {0}
    events = st.one_of(
        st.builds(ev.Tick),
        st.builds(
            ev.Wanted,
            ids,
            st.lists(nodes, max_size=3).map(tuple),
            st.sampled_from(Priority),
            st.none() | sizes,
        ),
        st.builds(ev.Unwanted, ids),
        st.builds(ev.NodeDied, nodes),
        st.builds(ev.RoomIs, sizes),
        st.builds(ev.BufferMade, ids),
        st.builds(ev.BufferRefused, ids, st.sampled_from(ev.Refusal), texts),
        st.builds(ev.Sealed, ids),
        st.builds(ev.SealRefused, ids, texts),
    )
    now_s = 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        ended = st.builds(
            ev.AttemptEnded,
            ids,
            st.sampled_from(sorted(attempts)),
            st.sampled_from(ev.End),
            sizes,
            st.none() | sizes,
            texts,
        )
        now_s += data.draw(st.sampled_from([0.0, 0.1, 100.0]))
        for instruction in pulls.handle(data.draw(events | ended), now_s):
            if isinstance(instruction, ev.Ask | ev.Stream):
                attempts.add(instruction.attempt)
        pulls.validate()
