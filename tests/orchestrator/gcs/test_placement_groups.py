"""All bundles or none, whatever happens to nodes and messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs.bundle_choice import BundleChoice
from orchestrator.gcs.effects import Effect, Tell, Write
from orchestrator.gcs.messages import CommitBundles, GroupChanged, NodeView, PrepareBundles, ReleaseBundles
from orchestrator.gcs.placement_groups import GroupTable, NoRoom, Wish
from orchestrator.gcs.requests import Done, Groups, GroupSpec, LabelSelector, Refused

ONE = ResourceSet.from_floats({"CPU": 1})
SPEC = GroupSpec("g", "", "", "SPREAD", (ONE, ONE, ONE))


class Chooser:
    """Answers what the test says."""

    def __init__(self) -> None:
        self.answers: list[list[int] | NoRoom] = []
        self.asked: list[tuple[Wish, Mapping[int, ResourceSet]]] = []

    def __call__(self, wish: Wish, nodes: Sequence[NodeView], promised: Mapping[int, ResourceSet]) -> Any:
        self.asked.append((wish, promised))
        return self.answers.pop(0) if self.answers else NoRoom("no room for that now")


@pytest.fixture
def chooser() -> Chooser:
    return Chooser()


@pytest.fixture
def table(chooser: Chooser) -> Iterator[GroupTable]:
    table = GroupTable(chooser, refuse_after_s=60.0)
    yield table
    table.validate()


def tells(effects: list[Effect]) -> list[tuple[int, Any]]:
    return [(effect.node, effect.event) for effect in effects if isinstance(effect, Tell)]


def tick(table: GroupTable, now_s: float = 0.0, version: int = 0) -> list[tuple[int, Any]]:
    effects = table.tick(now_s, version, list)
    table.validate()
    return tells(effects)


def state(table: GroupTable, group: str = "g") -> str:
    answer = table.groups()
    assert isinstance(answer, Groups)
    return next((one.state for one in answer.groups if one.spec.group == group), "(none)")


def created(table: GroupTable, chooser: Chooser, nodes: list[int]) -> None:
    """Bring the group to CREATED on these nodes."""
    table.create(9, SPEC)
    chooser.answers.append(nodes)
    tick(table)
    for node in set(nodes):
        assert table.prepared(node, "g", 1)[0] == Done(1)
    for node in set(nodes):
        assert table.committed(node, "g", 1)[0] == Done(1)
    assert state(table) == "CREATED"


def test_the_way_to_a_group(table: GroupTable, chooser: Chooser) -> None:
    assert table.create(9, SPEC)[0] == Done()
    chooser.answers.append([1, 2, 1])
    asked = tick(table)
    assert [(node, [b.bundle for b in event.bundles]) for node, event in asked] == [(1, [0, 2]), (2, [1])]
    assert tells(table.prepared(1, "g", 1)[1]) == []
    told = tells(table.prepared(2, "g", 1)[1])
    assert told[:2] == [(1, CommitBundles("g", 1)), (2, CommitBundles("g", 1))]
    assert told[2:] == [(9, GroupChanged("g", "CREATED", "", (1, 2, 1)))]


def test_one_that_refuses_rolls_all_back_and_is_released_too(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    chooser.answers += [[1, 2, 3], [1, 2, 4]]
    tick(table)
    table.prepared(1, "g", 1)
    released = tells(table.refused(3, "g", 1, "no room")[1])
    assert [(node, type(event)) for node, event in released] == [(n, ReleaseBundles) for n in (1, 2, 3)]
    # Late and repeated answers of the attempt change nothing; the next one is another.
    assert table.prepared(2, "g", 1)[0] == Done(0) and table.refused(3, "g", 1, "")[0] == Done(0)
    assert [(node, event.attempt) for node, event in tick(table)] == [(1, 2), (2, 2), (4, 2)]
    for node in (1, 2, 3):
        assert table.released(node, "g", 1)[0] == Done(1)
    for node in (1, 2, 4):
        table.prepared(node, "g", 2)
    assert state(table) == "CREATED"


def test_what_was_asked_for_is_not_promised_again(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    table.create(9, SPEC._replace(group="h"))
    chooser.answers.append([1, 1, 2])
    tick(table)
    assert chooser.asked[1][1] == {1: ONE.add(ONE), 2: ONE}


def test_a_node_that_dies_takes_its_bundles_and_no_others(table: GroupTable, chooser: Chooser) -> None:
    created(table, chooser, [1, 2, 3])
    told = tells(table.node_died(2))
    assert told == [(9, GroupChanged("g", "RESCHEDULING", "node 2 died", (1, 0, 3)))]
    chooser.answers.append([4])
    assert tick(table)[0][0] == 4
    wish = chooser.asked[-1][0]
    assert (wish.bundles, wish.occupied) == ((1,), {1, 3})
    told = tells(table.prepared(4, "g", 2)[1])
    assert told == [(4, CommitBundles("g", 2)), (9, GroupChanged("g", "CREATED", "", (1, 4, 3)))]


def test_a_second_node_that_dies_during_the_repair(table: GroupTable, chooser: Chooser) -> None:
    created(table, chooser, [1, 2, 3])
    table.node_died(2)
    chooser.answers += [[4], [5]]
    tick(table)
    table.node_died(3)
    assert tells(table.prepared(4, "g", 2)[1])[0] == (4, CommitBundles("g", 2))
    assert state(table) == "RESCHEDULING"
    ((node, asked),) = tick(table)
    assert (node, asked.attempt, [bundle.bundle for bundle in asked.bundles]) == (5, 3, [2])
    table.prepared(5, "g", 3)
    assert state(table) == "CREATED"


def test_a_node_that_dies_or_is_suspected_while_it_is_asked(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    chooser.answers += [[1, 2, 3], [1, 2, 4]]
    tick(table)
    assert [node for node, _ in tells(table.node_died(3))] == [1, 2]
    tick(table)
    assert [node for node, _ in tells(table.node_suspected(4))] == [1, 2, 4]
    assert state(table) == "PENDING"


def test_an_attempt_that_nobody_answers_is_given_up(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    chooser.answers += [[1, 2, 3]]
    tick(table)
    assert tick(table, 9.9) == []
    assert [node for node, _ in tick(table, 10.0)] == [1, 2, 3]


def test_a_suspicion_does_not_touch_what_is_decided(table: GroupTable, chooser: Chooser) -> None:
    created(table, chooser, [1, 2, 3])
    assert table.node_suspected(2) == [] and state(table) == "CREATED"


def test_whoever_registers_hears_what_he_has_not_confirmed(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    chooser.answers.append([1, 2, 2])
    tick(table)
    assert isinstance(tells(table.resume(1))[0][1], PrepareBundles)
    table.prepared(1, "g", 1)
    assert table.resume(1) == []
    table.prepared(2, "g", 1)
    assert tells(table.resume(1)) == [(1, CommitBundles("g", 1))]
    table.committed(1, "g", 1)
    assert table.resume(1) == []
    table.remove("g", "enough")
    assert tells(table.resume(1)) == [(1, ReleaseBundles("g", 1, "enough"))]
    assert tells(table.resume(9)) == [(9, GroupChanged("g", "REMOVED", "enough", (0, 0, 0)))]


@pytest.mark.parametrize("moment", ["waiting", "asked", "created"])
def test_a_group_that_is_removed_leaves_nothing(table: GroupTable, chooser: Chooser, moment: str) -> None:
    if moment == "created":
        created(table, chooser, [1, 2, 3])
    else:
        table.create(9, SPEC)
        chooser.answers += [] if moment == "waiting" else [[1, 2, 3]]
        tick(table)
    answer, _ = table.remove("g", "enough")
    assert answer == Done(1) and table.take_ended() == ["g"]
    last: list[Effect] = []
    for node in (1, 2, 3) if moment != "waiting" else ():
        last = table.released(node, "g", 1)[1]
    assert moment == "waiting" or last == [Write("groups", "g", None)]
    assert state(table) == "(none)" and table.remove("g", "again")[0] == Done(0)
    answer, _ = table.watch(9, "g")
    assert isinstance(answer, Groups) and (answer.groups[0].state, answer.groups[0].cause) == (
        "REMOVED",
        "enough",
    )


def test_what_can_never_be_is_refused_after_a_while(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    never = NoRoom("its bundles need the moon", never=True)
    chooser.answers += [never] * 3
    assert tick(table, 0.0, 1) == [(9, GroupChanged("g", "PENDING", "its bundles need the moon", (0, 0, 0)))]
    assert tick(table, 59.0, 2) == []
    ((_, told),) = tick(table, 60.0, 3)
    assert (told.state, told.cause) == ("INFEASIBLE", "its bundles need the moon")
    assert table.take_ended() == ["g"] and state(table) == "(none)"


def test_a_node_that_might_come_ends_the_countdown(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    chooser.answers += [NoRoom("never", True), NoRoom("not now"), NoRoom("never", True)]
    for now_s in (0.0, 50.0, 70.0):
        tick(table, now_s, int(now_s))
    assert state(table) == "PENDING"


def test_in_vain_is_not_tried_again_until_something_changes(table: GroupTable, chooser: Chooser) -> None:
    table.create(9, SPEC)
    for now_s, version in ((0.0, 1), (0.1, 1), (0.2, 1), (0.3, 2), (0.4, 2), (1.4, 2)):
        tick(table, now_s, version)
    assert len(chooser.asked) == 3


def test_groups_survive_the_head_in_every_state(table: GroupTable, chooser: Chooser) -> None:
    rows: dict[str, bytes] = {}

    def restarted() -> GroupTable:
        after = GroupTable(chooser)
        after.restore(rows.values(), 0.0)
        after.validate()
        assert after.groups() == table.groups()
        for node in (1, 2, 3, 9):
            assert after.resume(node) == table.resume(node)
        return after

    def keep(effects: list[Effect]) -> None:
        rows.update({e.key: e.value for e in effects if isinstance(e, Write) and e.value is not None})

    keep(table.create(9, SPEC)[1])
    restarted()
    chooser.answers.append([1, 2, 3])
    keep(table.tick(0.0, 0, list))
    for node in (1, 2, 3):
        restarted()
        keep(table.prepared(node, "g", 1)[1])
    for node in (1, 2, 3):
        restarted()
        keep(table.committed(node, "g", 1)[1])
    keep(table.node_died(2))
    restarted()
    keep(table.remove("g", "enough")[1])
    restarted()


@pytest.mark.parametrize(
    "bad",
    [SPEC._replace(bundles=()), SPEC._replace(strategy="PILE"), SPEC._replace(bundles=(ResourceSet(),)),
     SPEC._replace(group=""), SPEC._replace(selectors=(LabelSelector({}),) * 4)],
)  # fmt: skip
def test_what_is_no_group(table: GroupTable, bad: GroupSpec) -> None:
    answer, effects = table.create(9, bad)
    assert isinstance(answer, Refused) and answer.code == "invalid" and not effects


def test_the_scheduler_s_packing() -> None:
    """The real choice: strategies, labels, what is promised, nodes that come and go."""
    choice = BundleChoice()

    def node(number: int, cpus: float, zone: str = "a") -> NodeView:
        total = ResourceSet.from_floats({"CPU": cpus})
        return NodeView(number, f"{number:016x}", "", {}, total, total, {"zone": zone}, False, "ALIVE")

    nodes = [node(1, 2), node(2, 2, "b")]
    strict = Wish(SPEC._replace(strategy="STRICT_SPREAD", bundles=(ONE, ONE)), (0, 1), frozenset())
    chosen = choice(strict, nodes, {})
    assert isinstance(chosen, list) and sorted(chosen) == [1, 2]
    refused = choice(strict, nodes[:1], {})
    assert isinstance(refused, NoRoom) and refused.never
    full = choice(strict, nodes, {1: ONE.add(ONE)})
    assert isinstance(full, NoRoom) and not full.never
    labelled = SPEC._replace(
        bundles=(ONE, ONE), selectors=(LabelSelector({"zone": "b"}), LabelSelector({"zone": "a"}))
    )
    assert choice(Wish(labelled, (0, 1), frozenset()), nodes, {}) == [2, 1]
    assert choice(Wish(labelled, (1,), frozenset({2})), nodes, {}) == [1]


def test_nodes_make_room_for_one_group_that_has_waited_for_long() -> None:
    def node(index: int) -> NodeView:
        total = ResourceSet.from_floats({"CPU": 2})
        return NodeView(index, f"{index:016x}", "", {}, total, ResourceSet(), {}, False, "ALIVE")

    table = GroupTable(BundleChoice(), refuse_after_s=None)
    nodes = [node(1), node(2)]
    two = ResourceSet.from_floats({"CPU": 2})
    for name in ("g", "h"):
        table.create(1, GroupSpec(name, "", "", "PACK", (two,)))

    def asked(now_s: float) -> list[tuple[int, str]]:
        out = tells(table.tick(now_s, 0, lambda: nodes))
        table.validate()
        return [(index, said.group) for index, said in out if isinstance(said, PrepareBundles)]

    assert asked(0.0) == [] and asked(1.5) == []
    ((first, name),) = asked(3.0)
    assert name == "g" and asked(4.5) == [], "the other one's turn comes when this is decided"
    table.refused(first, "g", 1, "actors are there")
    ((second, name),) = asked(5.0)
    assert name == "g" and second != first
    table.prepared(second, "g", 2)
    assert state(table, "g") == "CREATED"
    assert asked(6.0) == [], "what is to be released is still there"
    table.released(first, "g", 1)
    assert asked(7.0) == [(first, "h")], "where the first group is there is no room to be made"
