"""Who belongs to the cluster, and who is dead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import nodes as module
from orchestrator.gcs.messages import DrainNode, Heartbeat, NodeSpec, Register
from orchestrator.gcs.nodes import TABLE, HealthPolicy, NodeRecord, NodeState, NodeTable

POLICY = HealthPolicy(suspect_s=2.0, dead_s=10.0, lost_s=5.0, restart_s=30.0)
TOTAL = ResourceSet.from_floats({"CPU": 4})


def spec(number: int, *, is_head: bool = False) -> NodeSpec:
    return NodeSpec(f"{number:016x}", f"host-{number}", {}, TOTAL, {}, is_head)


@pytest.fixture
def table() -> Iterator[NodeTable]:
    table = NodeTable(POLICY)
    yield table
    table.validate()


def register(table: NodeTable, number: int, now_s: float = 0.0, *, is_head: bool = False) -> NodeRecord:
    record, _, _ = table.register(number, Register(spec(number, is_head=is_head)), now_s)
    assert isinstance(record, NodeRecord), record
    return record


def ticks(table: NodeTable, start_s: float, end_s: float) -> list[module.Died]:
    """Let time pass in steps of half a second."""
    died = []
    now_s = start_s
    while now_s <= end_s:
        died += table.tick(now_s)[1]
        now_s += 0.5
    return died


def test_the_head_is_one_and_no_index_is_used_twice(table: NodeTable) -> None:
    assert [register(table, 7).index, register(table, 8).index] == [2, 3]
    table.bury(3, "gone")
    assert register(table, 9).index == 4

    other = NodeTable(POLICY)
    assert [register(other, 1, is_head=True).index, register(other, 2).index] == [1, 2]


def test_a_node_that_registers_again_keeps_its_index(table: NodeTable) -> None:
    first = register(table, 7)
    record, writes, died = table.register(99, Register(spec(7), first.index), 1.0)
    assert record is first and first.session == 99 and not writes and not died
    # The answer to its first message was lost: it does not know its index yet.
    assert table.register(100, Register(spec(7)), 1.0)[0] is first


def test_silence_is_suspected_and_then_death(table: NodeTable) -> None:
    record = register(table, 7)
    assert ticks(table, 0.0, 1.5) == [] and record.state is NodeState.ALIVE
    assert ticks(table, 2.0, 9.5) == [] and record.state is NodeState.SUSPECT
    (died,) = ticks(table, 10.0, 10.5)
    assert (died.node, record.state) == (2, NodeState.DEAD)
    assert "nothing was heard from it for 2 s" in died.cause


def test_a_heartbeat_clears_the_suspicion(table: NodeTable) -> None:
    record = register(table, 7)
    ticks(table, 0.0, 5.0)
    table.changed.clear()
    table.heartbeat(record, Heartbeat(ResourceSet()), 5.0)
    assert record.state is NodeState.ALIVE and record.cause == "" and list(table.changed) == [2]
    assert ticks(table, 5.5, 6.5) == []


def test_a_heartbeat_without_news_is_no_change(table: NodeTable) -> None:
    record = register(table, 7)
    table.changed.clear()
    table.heartbeat(record, Heartbeat(TOTAL), 1.0)
    assert not table.changed


def test_a_broken_session_is_death_sooner(table: NodeTable) -> None:
    record = register(table, 7)
    table.tick(0.0)
    table.session_lost(record, 1.0)
    assert record.state is NodeState.SUSPECT and record.session is None
    assert ticks(table, 1.0, 5.5) == []
    assert len(ticks(table, 6.0, 6.0)) == 1


def test_the_dead_are_told_so(table: NodeTable) -> None:
    register(table, 7)
    table.bury(2, "its power is off")
    answer, writes, _ = table.register(8, Register(spec(7), 2), 1.0)
    assert answer == "it was declared dead: its power is off" and not writes
    assert table.bury(2, "again") == ([], [])


def test_the_long_dead_are_refused_too(table: NodeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_MAX", 2)
    for number in range(7, 11):
        table.bury(register(table, number).index, "gone")
    assert table.get(2) is None and table.get(5) is not None
    answer, _, _ = table.register(8, Register(spec(7), 2), 1.0)
    assert isinstance(answer, str) and "declared dead long ago" in answer


def test_a_new_head_buries_the_old_one(table: NodeTable) -> None:
    register(table, 1, is_head=True)
    _, writes, died = table.register(2, Register(spec(2, is_head=True)), 1.0)
    assert [one.node for one in died] == [1] and "started anew" in died[0].cause
    assert table.head_index == 2 and {write.key for write in writes if write.table == TABLE} == {"1", "2"}


def test_the_head_s_own_absence_kills_nobody(table: NodeTable) -> None:
    record = register(table, 7)
    table.tick(0.0)
    assert table.tick(3600.0)[1] == [] and record.state is NodeState.ALIVE
    # From here on its silence counts again.
    assert ticks(table, 3600.5, 3603.0) == [] and record.state is NodeState.SUSPECT
    assert len(ticks(table, 3603.5, 3611.0)) == 1


def test_after_a_restart_all_have_time_to_come_back(table: NodeTable) -> None:
    rows: dict[str, bytes] = {}
    for number in (7, 8, 9):
        _, writes, _ = table.register(number, Register(spec(number)), 0.0)
        rows |= {write.key: write.value for write in writes if write.table == TABLE and write.value}
    writes, _ = table.bury(3, "gone")
    rows |= {write.key: write.value for write in writes if write.value}

    after = NodeTable(POLICY)
    after.restore(rows.values(), 5, 100.0)
    after.validate()
    assert [record.state for record in after.all()] == [NodeState.SUSPECT, NodeState.DEAD, NodeState.SUSPECT]
    assert register(after, 7, 101.0).index == 2
    assert register(after, 10, 101.0).index == 5
    died = []
    for tick in range(1000, 1400):
        died += [one.node for one in after.tick(tick / 10)[1] if one.node == 4]
    assert died == [4]


def restarted(*numbers: int, now_s: float = 100.0) -> NodeTable:
    """Return the table of a head that was started anew, and knows the nodes with these ids."""
    before = NodeTable(POLICY)
    rows: list[bytes] = []
    for number in numbers:
        _, writes, _ = before.register(number, Register(spec(number)), 0.0)
        rows += [write.value for write in writes if write.table == TABLE and write.value]
    after = NodeTable(POLICY)
    after.restore(rows, len(numbers) + 2, now_s)
    return after


def test_where_nobody_listens_any_more_nobody_is_waited_for(table: NodeTable) -> None:
    record = register(table, 7)
    table.session_lost(record, 1.0)
    assert table.nobody_listens(2, 1.0) == ([], []) and record.state is NodeState.SUSPECT
    assert table.nobody_listens(2, 1.5) == ([], [])
    _, (died,) = table.nobody_listens(2, 2.0)
    assert died.node == 2 and "nobody listens there any more (its connection to the head broke)" in died.cause
    assert table.nobody_listens(2, 3.0) == table.nobody_listens(99, 3.0) == ([], [])


def test_who_has_a_session_lives_wherever_it_listens(table: NodeTable) -> None:
    record = register(table, 7)
    assert table.absent() == []
    assert table.nobody_listens(2, 0.0) == table.nobody_listens(2, 5.0) == ([], [])
    table.session_lost(record, 5.0)
    assert table.absent() == [record]
    table.nobody_listens(2, 5.0)
    # It is back, and what was found before counts no more when it goes again.
    register(table, 7, 5.5)
    table.session_lost(record, 6.0)
    assert table.nobody_listens(2, 6.5) == ([], []) and record.state is NodeState.SUSPECT


def test_a_node_that_died_while_the_head_was_away_is_found_out_by_its_door() -> None:
    table = restarted(7, 8)
    register(table, 7, 100.1)
    assert [record.index for record in table.absent()] == [3]
    assert table.nobody_listens(3, 100.1) == ([], [])
    assert [died.node for died in table.nobody_listens(3, 101.1)[1]] == [3]
    table.validate()


def test_when_most_are_back_after_a_restart_silence_counts_as_ever() -> None:
    table = restarted(7, 8, 9, 10)
    table.tick(100.0)
    register(table, 7, 100.5)
    register(table, 8, 102.0)
    # Half of them: it may be the network of the others, or of the head.
    heard = [table.get(2), table.get(3)]
    for tick in range(1010, 1220):
        for record in heard:
            assert record is not None
            table.heartbeat(record, Heartbeat(TOTAL), tick / 10)
        assert table.tick(tick / 10)[1] == []
    heard.append(register(table, 9, 122.0))
    died = {}
    for tick in range(1220, 1350):
        for record in heard:
            assert record is not None
            table.heartbeat(record, Heartbeat(TOTAL), tick / 10)
        table.validate()
        died |= {one.node: tick / 10 for one in table.tick(tick / 10)[1]}
    assert died == {5: 130.0}  # what it has had after the restart in any case

    table = restarted(7, 8, 9)
    heard = [register(table, 7, 101.0), register(table, 8, 102.0)]
    for tick in range(1010, 1130):
        for record in heard:
            assert record is not None
            table.heartbeat(record, Heartbeat(TOTAL), tick / 10)
        died |= {one.node: tick / 10 for one in table.tick(tick / 10)[1]}
    assert died == {5: 130.0, 4: 112.0}


def test_draining_is_a_wish_that_stays(table: NodeTable) -> None:
    record = register(table, 7)
    wish = DrainNode("it is too expensive", 60.0)
    assert table.drain(2, wish) and table.drain(99, wish) is None
    assert record.view().draining and record.view().cause == "it is too expensive"
    table.session_lost(record, 1.0)
    register(table, 7, 2.0)
    assert record.drain == wish and record.view().cause == "it is too expensive"


@pytest.mark.parametrize(
    "bad, complaint",
    [
        (spec(1)._replace(node_id="x"), "16 hexadecimal digits"),
        (spec(1)._replace(labels={str(n): "" for n in range(300)}), "more than 256"),
        (spec(1)._replace(hostname="x" * 2000), "more than 1024 characters"),
        (spec(1)._replace(total=ResourceSet({"CPU": -1})), "negative"),
    ],
)
def test_what_a_node_may_say_of_itself_is_bounded(table: NodeTable, bad: NodeSpec, complaint: str) -> None:
    answer, writes, _ = table.register(1, Register(bad), 0.0)
    assert isinstance(answer, str) and complaint in answer and not writes


def test_indices_end(table: NodeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INDEX_MAX", 3)
    assert [register(table, 7).index, register(table, 8).index] == [2, 3]
    answer, _, _ = table.register(9, Register(spec(9)), 0.0)
    assert isinstance(answer, str) and "used up its 3 node indices" in answer
