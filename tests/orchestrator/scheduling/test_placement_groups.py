"""The life of placement groups, without a scheduler."""

from __future__ import annotations

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling import placement_groups as module
from orchestrator.scheduling.actor_table import Tell
from orchestrator.scheduling.placement_groups import GroupSpec, GroupTable, ReleaseBundles, RequestBundles

DRIVER, OTHER = 1, 2
ONE_CPU = ResourceSet.from_floats({"CPU": 1})


def spec(group: str = "aa", name: str = "", strategy: str = "PACK", count: int = 1) -> GroupSpec:
    return GroupSpec(group, name, "n", strategy, (ONE_CPU,) * count)


def told(instructions: list[module.Instruction]) -> list[tuple[int, dict[str, object]]]:
    return [(i.client, i.message) for i in instructions if isinstance(i, Tell)]


def states(instructions: list[module.Instruction]) -> list[tuple[int, object]]:
    return [(client, message["state"]) for client, message in told(instructions)]


def test_from_the_wish_to_the_reservation() -> None:
    table = GroupTable()
    assert table.create(DRIVER, spec(), 0) == [RequestBundles(DRIVER, spec())]
    assert table.wait(DRIVER, "aa", 3) == table.wait(OTHER, "aa", 4) == []
    table.validate()
    assert states(table.reserved("aa")) == [(DRIVER, "CREATED"), (OTHER, "CREATED")]
    assert states(table.wait(OTHER, "aa", 5)) == [(OTHER, "CREATED")]
    table.validate()


def test_whoever_waits_for_the_impossible_hears_why() -> None:
    table = GroupTable()
    table.create(DRIVER, spec(), 0)
    table.wait(OTHER, "aa", 4)
    ((client, message),) = told(table.infeasible("aa", "too large"))
    assert (client, message["state"], message["cause"]) == (OTHER, "INFEASIBLE", "too large")
    assert states(table.wait(DRIVER, "aa", 5)) == [(DRIVER, "INFEASIBLE")]
    table.validate()


def test_strict_spread_wants_a_node_for_each_bundle() -> None:
    table = GroupTable(nodes_count=2)
    assert table.create(DRIVER, spec("aa", strategy="STRICT_SPREAD", count=2), 0)
    assert table.create(DRIVER, spec("bb", strategy="STRICT_SPREAD", count=3), 0) == []
    ((_, message),) = told(table.wait(DRIVER, "bb", 1))
    assert message["cause"] == "STRICT_SPREAD wants a node for each of its 3 bundles: there is 2 nodes"
    table.validate()


@pytest.mark.parametrize("reserved", [False, True])
def test_a_removed_group_is_released_once(reserved: bool) -> None:
    table = GroupTable()
    table.create(DRIVER, spec(), 0)
    if reserved:
        table.reserved("aa")
    assert table.remove("aa")[0] == ReleaseBundles("aa")
    assert table.remove("aa") == table.reserved("aa") == table.infeasible("aa", "late") == []
    assert states(table.wait(OTHER, "aa", 4)) == [(OTHER, "REMOVED")]
    table.validate()


def test_a_name_is_taken_once_until_its_group_is_gone() -> None:
    table = GroupTable()
    created, request = table.create(DRIVER, spec("aa", "mine"), 7)
    assert told([created])[0][1]["req"] == 7 and isinstance(request, RequestBundles)
    ((_, answer),) = told(table.create(OTHER, spec("bb", "mine"), 8))
    assert answer["error"] == "exists"
    assert told(table.find(OTHER, "mine", "n", 9))[0][1]["group"] == "aa"
    assert told(table.find(OTHER, "mine", "m", 9))[0][1]["found"] is False
    table.remove("aa")
    assert told(table.find(OTHER, "mine", "n", 9))[0][1]["found"] is False
    assert len(table.create(OTHER, spec("cc", "mine"), 10)) == 2
    table.validate()


def test_a_client_that_has_gone_is_told_nothing() -> None:
    table = GroupTable()
    table.create(DRIVER, spec(), 0)
    table.wait(OTHER, "aa", 4)
    table.client_died(OTHER)
    assert table.reserved("aa") == []
    table.validate()


def test_those_that_are_gone_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GONE_MAX", 3)
    table = GroupTable()
    for number in range(10):
        table.create(DRIVER, spec(f"g{number}"), 0)
        table.remove(f"g{number}")
        table.validate()
    assert [row["group"] for row in table.listing()] == ["g7", "g8", "g9"]
    ((_, message),) = told(table.wait(DRIVER, "g1", 1))
    assert message["state"] == "REMOVED" and "does not know" in str(message["cause"])
