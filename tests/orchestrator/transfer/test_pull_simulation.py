"""Many pulls among nodes that die, lie, fill up and lose connections:

Each ends with the right bytes, or for a reason.
"""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.transfer import events as ev
from orchestrator.transfer.events import Priority
from orchestrator.transfer.pull_manager import PullManager
from tests.orchestrator.transfer.simulation import SimNode, Simulation


def run(seed: int, *, nodes: int, objects: int, breaks: float, deaths: int, store_bytes: int) -> Simulation:
    sim = Simulation(seed, store_bytes=store_bytes, bytes_max=store_bytes // 2)
    sim.breaks = breaks
    rng = sim.rng
    for _ in range(nodes):
        sim.add_node()
    truth: dict[bytes, bytes] = {}
    holders: dict[bytes, list[int]] = {}
    for number in range(objects):
        object_id = number.to_bytes(16, "big")
        size = rng.choice([0, 1, 100, 5000, store_bytes // 8, store_bytes // 2, store_bytes * 3 // 4])
        truth[object_id] = rng.randbytes(size)
        holders[object_id] = rng.sample(range(1, nodes + 1), rng.randint(1, max(1, nodes // 2)))
        for index in holders[object_id]:
            sim.nodes[index].sealed[object_id] = truth[object_id]
    wanted: list[tuple[SimNode, bytes]] = []
    for object_id, data in truth.items():
        for node in sim.nodes.values():
            if object_id in node.sealed or rng.random() < 0.3:
                continue
            # Sources that have it, and others that are only receiving it or never will.
            sources = [*holders[object_id], *rng.sample(range(1, nodes + 1), rng.randint(0, nodes))]
            sources = [index for index in sources if index != node.index]
            rng.shuffle(sources)
            size = len(data) if rng.random() < 0.7 else None
            priority = rng.choice(list(Priority))
            when_s = rng.uniform(0.0, 3.0)
            sim.later(when_s, partial(node.want, object_id, sources, priority, size))
            if rng.random() < 0.15:
                sim.later(when_s + rng.uniform(0.0, 3.0), partial(node.tell, ev.Unwanted(object_id)))
            else:
                wanted.append((node, object_id))
    for _ in range(deaths):
        sim.later(rng.uniform(0.0, 5.0), partial(sim.kill, rng.randint(1, nodes)))
    for node in sim.nodes.values():
        # A program that holds most of the store for a while.
        taken = rng.choice([0, 0, store_bytes * 7 // 8])
        sim.later(rng.uniform(0.0, 2.0), partial(node.take, taken))
        sim.later(rng.uniform(3.0, 90.0), partial(node.take, 0))
    sim.run()
    for node, object_id in wanted:
        if not node.alive:
            continue
        report = node.last(object_id)
        assert report is not None, f"seed {seed}: nothing is known of {object_id.hex()} at node {node.index}"
        if isinstance(report, ev.Pulled):
            assert node.sealed[object_id] == truth[object_id]
        else:
            assert report.why
    for node in sim.nodes.values():
        for object_id, data in node.sealed.items():
            assert data == truth[object_id]
        if node.alive:
            assert len(node.pulls) == 0 and node.pulls.room_bytes == 0 and not node.coming
            assert not node.running
    return sim


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
    run(seed, nodes=nodes, objects=objects, breaks=breaks, deaths=deaths, store_bytes=1 << 16)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_is_the_same_story(seed: int) -> None:
    first = run(seed, nodes=4, objects=4, breaks=0.1, deaths=1, store_bytes=1 << 16)
    again = run(seed, nodes=4, objects=4, breaks=0.1, deaths=1, store_bytes=1 << 16)
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
