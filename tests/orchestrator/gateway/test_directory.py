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


LARGE = 64 << 20


def sources(out: list[d.Instruction]) -> dict[int, list[int]]:
    """Return whom nodes are told to get the bytes from."""
    return {
        one.node: one.message["nodes"]
        for one in out
        if isinstance(one, d.Send) and one.message["op"] == "located"
    }


def wanted_by(*nodes: int, size_bytes: int = LARGE) -> tuple[Directory, dict[int, list[int]]]:
    """Return the directory of the home of an object that nodes have asked for, and what they were told."""
    directory = Directory(HERE)
    told: dict[int, list[int]] = {}
    for node in nodes:
        directory.on_borrow(node, OURS, d.SEALED)
        told |= sources(directory.on_want(node, OURS, d.SEALED, size_bytes))
        directory.validate()
    return directory, told


def test_a_large_object_is_passed_on_by_those_who_are_still_receiving_it():
    _, told = wanted_by(2, 3, 4)
    assert told == {2: [HERE], 3: [2, HERE], 4: [3, HERE]}


def test_a_small_object_comes_from_those_who_have_all_of_it():
    _, told = wanted_by(2, 3, 4, size_bytes=1000)
    assert told == {2: [HERE], 3: [HERE], 4: [HERE]}


def test_who_has_received_everything_is_a_source_for_others():
    directory, _ = wanted_by(2)
    directory.on_copied(2, OURS, d.SEALED)
    directory.on_borrow(3, OURS, d.SEALED)
    assert set(sources(directory.on_want(3, OURS, d.SEALED, LARGE))[3]) == {HERE, 2}


def test_who_received_from_a_node_that_died_is_sent_to_another():
    directory, _ = wanted_by(2, 3, 4)
    assert sources(directory.node_died(3)) == {4: [2, HERE]}
    directory.validate()


def test_who_gets_nothing_from_its_source_is_sent_to_another():
    directory, _ = wanted_by(2, 3)
    assert sources(directory.on_stale(3, OURS, [2])) == {3: [HERE]}
    assert sources(directory.on_want(3, OURS, d.SEALED, LARGE)) == {3: [HERE]}


def test_who_has_no_room_is_nobody_s_source():
    directory, _ = wanted_by(2, 3)
    assert sources(directory.on_unwanted(2, OURS)) == {3: [HERE]}
    directory.on_unwanted(3, OURS)
    directory.validate()
    assert sources(directory.on_want(4, OURS, d.SEALED, LARGE)) == {4: [HERE]}


def test_a_home_hears_of_who_has_no_room():
    away = Directory(THERE)
    away.borrow(100, OURS)
    away.want(OURS, d.PENDING)
    away.on_located(HERE, OURS, [HERE], LARGE)
    told = away.pull_impossible(OURS, "no room")
    assert told == [d.Send(HERE, {"op": "unwanted", "object": OURS.hex()}), d.Lose(OURS, "no room")]


def test_all_wait_when_the_last_copy_is_gone_and_are_told_when_there_is_another():
    directory = Directory(HERE)
    directory.want(OURS, d.PENDING)
    directory.on_stored(THERE, OURS, LARGE, d.PENDING)
    told = sources([*directory.on_want(3, OURS, d.PENDING), *directory.on_want(4, OURS, d.PENDING)])
    assert told == {3: [THERE], 4: [3, THERE]}
    directory.node_died(THERE)
    directory.node_died(3)
    directory.validate()
    out = directory.decided(OURS, d.SEALED, LARGE)  # its owner has made it again
    assert sources(out).get(4) == [HERE]


def test_who_wants_again_what_it_had_is_no_source_any_more():
    directory = Directory(HERE)
    directory.want(OURS, d.PENDING)
    directory.on_stored(3, OURS, LARGE, d.PENDING)
    directory.on_want(4, OURS, d.PENDING)
    out = directory.on_want(3, OURS, d.PENDING)  # the word that it has dropped its copy comes later
    assert d.Missing(OURS) in out
    directory.validate()
    assert sources(directory.on_stale(4, OURS, [3])) == {}
    out = directory.decided(OURS, d.SEALED, LARGE)
    assert {3, 4} <= set(sources(out))


def test_who_had_everything_when_its_source_was_gone_needs_no_other():
    directory = Directory(HERE)
    directory.want(OURS, d.PENDING)
    directory.on_stored(2, OURS, LARGE, d.PENDING)
    told = sources([*directory.on_want(3, OURS, d.PENDING), *directory.on_want(4, OURS, d.PENDING)])
    assert told == {3: [2], 4: [3, 2]}
    directory.node_died(2)
    assert sources(directory.on_copied(3, OURS, d.PENDING)) == {4: [3]}
    assert sources(directory.on_copied(4, OURS, d.PENDING)) == {}
    directory.validate()
    assert d.Missing(OURS) not in directory.on_dropped(3, OURS)
    assert d.Missing(OURS) in directory.on_dropped(4, OURS)


def test_a_source_that_comes_takes_over_from_one_that_goes():
    directory = Directory(HERE)
    directory.want(OURS, d.PENDING)
    directory.on_stored(2, OURS, LARGE, d.PENDING)
    directory.on_want(3, OURS, d.PENDING)
    directory.on_stored(5, OURS, LARGE, d.PENDING)
    assert sources(directory.node_died(2)) == {3: [5]}


def test_who_wanted_what_is_then_made_there_wants_it_no_more():
    directory = Directory(HERE)
    directory.on_borrow(THERE, OURS, d.PENDING)
    directory.on_want(THERE, OURS, d.PENDING)
    directory.on_stored(THERE, OURS, 10, d.PENDING)
    directory.validate()
    directory.unneeded(OURS)
    assert d.Release(OURS, 0) in directory.on_unborrow(THERE, OURS)


def copied() -> Directory:
    """Return the directory of a node that has a copy of an object of another one, which a process needs."""
    away = Directory(THERE)
    away.borrow(100, OURS)
    away.on_borrowed(HERE, OURS)
    away.want(OURS, d.PENDING)
    away.on_located(HERE, OURS, [HERE], LARGE)
    away.pulled(OURS)
    return away


def said(out: list[d.Instruction]) -> list[str]:
    return [one.message["op"] for one in out if isinstance(one, d.Send)]


def test_a_copy_that_nobody_needs_stays_until_its_home_frees_it():
    away = copied()
    out = away.unneeded(OURS)
    assert d.Retain(OURS) in out and said(out) == ["unborrow"]
    assert away.on_free(HERE, OURS) == [d.Release(OURS, 0)]
    assert said(away.released(OURS)) == []
    assert len(away) == 0


def test_a_copy_that_is_in_the_way_goes_and_its_home_hears_of_it():
    away = copied()
    away.unneeded(OURS)
    assert away.drop(OURS) == [d.Release(OURS, 0)]
    assert said(away.released(OURS)) == ["dropped"]
    assert len(away) == 0


def test_a_copy_that_is_needed_again_is_borrowed_again_and_not_dropped():
    away = copied()
    away.unneeded(OURS)
    assert said(away.borrow(100, OURS)) == ["borrow"]
    assert away.drop(OURS) == []
    away.on_borrowed(HERE, OURS)
    assert d.Retain(OURS) in away.unneeded(OURS)


def test_of_a_dead_home_no_copy_is_retained():
    away = copied()
    away.node_died(HERE)
    assert away.unneeded(OURS) == [d.Release(OURS, 0)]


def test_what_is_no_copy_is_not_dropped():
    away = Directory(THERE)
    assert away.drop(OURS) == []
    away.gave(OURS, 5, 10, HERE)
    assert away.drop(OURS) == []
