"""Single happenings of the directory; whole histories are simulated in tests/simulation."""

from __future__ import annotations

from orchestrator.common.ids import object_id, process_prefix
from orchestrator.gateway import directory as d
from orchestrator.gateway.directory import Directory

HERE, THERE = 1, 2
OURS = object_id(process_prefix("session", 7, HERE), 1)


def test_a_result_made_elsewhere_is_brought_to_a_process_that_waited_before_any_node_had_heard_of_it():
    directory = Directory(HERE)
    # A worker here waits for the result of a task that its neighbour has submitted, and that runs there.
    assert directory.want(OURS, d.PENDING) == [d.Keep(OURS)]
    out = directory.on_stored(THERE, OURS, 10, d.PENDING)
    assert d.Pull(OURS, (THERE,), 10) in out
    directory.validate()


def test_what_was_waited_for_only_here_is_let_go_without_a_word():
    directory = Directory(HERE)
    directory.want(OURS, d.PENDING)
    assert directory.unneeded(OURS) == [d.Release(OURS, 0)]
    assert directory.released(OURS) == [d.StopPull(OURS)]
    assert len(directory) == 0


def test_nobody_waits_for_what_is_gone():
    assert Directory(HERE).want(OURS, d.ABSENT) == []
