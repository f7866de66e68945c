from __future__ import annotations

import re

import pytest

from orchestrator.autoscaler import instances as module
from orchestrator.autoscaler.instances import (
    DEAD,
    LIVING,
    TRANSITIONS,
    Change,
    Instances,
    InvalidTransition,
    State,
)


def test_every_state_is_reached_and_every_change_happens() -> None:
    assert set(TRANSITIONS.values()) | {State.REQUESTED} == set(State)
    assert {change for _, change in TRANSITIONS} == set(Change)
    assert set(LIVING) | set(DEAD) == set(State)


def test_the_table_in_the_text_names_every_state() -> None:
    assert module.__doc__ is not None
    assert {one.name for one in State} <= set(re.findall(r"[A-Z]{5,}", module.__doc__))


def test_what_is_not_in_the_table_changes_nothing() -> None:
    table = Instances()
    one = table.add("r1", "small", 0.0)
    with pytest.raises(InvalidTransition, match="r1 small requested"):
        table.change(one, Change.DRAIN, 1.0)
    assert one.state is State.REQUESTED and one.since_s == 0.0


def test_records_make_the_same_table() -> None:
    table = Instances()
    one = table.add("r1", "small", 0.0)
    one.provider_id = "m-1"
    table.change(one, Change.SEEN, 1.0)
    again = Instances.from_records(table.to_records(), 9.0)
    assert again.to_records() == table.to_records() and not table.is_changed
    assert [(i.state, i.since_s) for i in again] == [(State.ALLOCATED, 9.0)]


def test_the_dead_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_MAX", 2)
    table = Instances()
    for n in range(5):
        table.change(table.add(f"r{n}", "small", 0.0), Change.GIVE_UP, 0.0)
    assert [one.request for one in table] == ["r3", "r4"]
