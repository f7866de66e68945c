"""Whoever follows sees what is, however rarely he looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import cluster_view as module
from orchestrator.gcs.cluster_view import ViewFollower, ViewPublisher
from orchestrator.gcs.messages import NodeView


def view(node: int, state: str = "ALIVE", cpus: float = 1) -> NodeView:
    total = ResourceSet.from_floats({"CPU": cpus})
    return NodeView(node, f"{node:016x}", "h", {}, total, total, {}, False, state)


def follow(follower: ViewFollower, publisher: ViewPublisher) -> list[module.Change]:
    views = publisher.since(follower.epoch, follower.version)
    return [change for one in views for change in follower.apply(one)]


#: (node, what to do): 0 looks at the head, 1 dies, else changes.
steps = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), max_size=60)


@given(steps, st.integers(0, 3), st.integers(1, 4))
def test_a_follower_sees_what_is(steps: list[tuple[int, int]], dead_max: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DEAD_MAX", dead_max)
        patch.setattr(module, "NODES_PER_VIEW_MAX", piece)
        publisher, follower, truth = ViewPublisher(7), ViewFollower(), {}
        dead: set[int] = set()
        for node, action in steps:
            if action == 0:
                died = {c.before.node for c in follow(follower, publisher) if c.died and c.before is not None}
                assert follower.nodes == truth and died <= dead
            elif node not in dead:
                now = view(node, "DEAD" if action == 1 else "ALIVE", action)
                publisher.publish([now])
                truth[node] = now
                if action == 1:
                    del truth[node]
                    dead.add(node)
            publisher.validate()
        follow(follower, publisher)
        assert follower.nodes == truth and follower.version == publisher.version
        assert follow(follower, publisher) == []


def test_only_what_changed_is_sent_and_once() -> None:
    publisher, follower = ViewPublisher(1), ViewFollower()
    publisher.publish([view(1), view(2)])
    follow(follower, publisher)
    for cpus in range(5):
        publisher.publish([view(2, cpus=cpus)])
    (news,) = publisher.since(follower.epoch, follower.version)
    assert not news.snapshot and news.nodes == (view(2, cpus=4),)


def test_another_head_begins_anew_and_the_missing_are_dead() -> None:
    publisher, follower = ViewPublisher(1), ViewFollower()
    publisher.publish([view(1), view(2)])
    follow(follower, publisher)
    successor = ViewPublisher(2)
    successor.publish([view(2), view(3)])
    changes = follow(follower, successor)
    assert [(c.before, c.after) for c in changes] == [(None, view(3)), (view(1), None)]
    assert [c.died for c in changes] == [False, True]


def test_a_break_within_a_snapshot_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NODES_PER_VIEW_MAX", 1)
    publisher, follower = ViewPublisher(1), ViewFollower()
    publisher.publish([view(1), view(2)])
    first, _ = publisher.since(0, 0)
    follower.apply(first)
    assert (follower.epoch, follower.version) == (0, 0)
    follow(follower, publisher)
    assert set(follower.nodes) == {1, 2}
