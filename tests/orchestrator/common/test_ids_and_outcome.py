"""Ids that two processes compute alike, and outcomes."""

from __future__ import annotations

import pickle

import pytest

from orchestrator.common import ids
from orchestrator.common.outcome import Outcome


def test_two_processes_compute_the_same_id():
    here = ids.object_id(ids.process_prefix("session", 65537), 7, 2)
    there = ids.object_id(ids.process_prefix("session", 65537), 7, 2)
    assert here == there and len(here) == ids.ID_SIZE_BYTES


def test_everything_that_differs_makes_another_id():
    made = {
        ids.object_id(ids.process_prefix(session, address), sequence, index)
        for session in ("a", "b")
        for address in (1, 2)
        for sequence in (1, 2)
        for index in (0, 1, ids.INDEX_MAX)
    }
    assert len(made) == 24


def test_an_id_as_an_object():
    one = ids.ActorID.from_hex("ab" * 16)
    assert (one.hex(), one.binary(), type(one.binary())) == ("ab" * 16, b"\xab" * 16, bytes)
    assert one == ids.ActorID.from_binary(one.binary()) and hash(one) == hash(ids.ActorID(one))
    assert one != ids.TaskID(one.binary()) and one != ids.ActorID.from_hex("cd" * 16)
    assert ids.NodeID.nil().is_nil() and not one.is_nil()
    assert repr(one) == f"ActorID({'ab' * 16})"
    assert pickle.loads(pickle.dumps(one)) == one and type(pickle.loads(pickle.dumps(one))) is ids.ActorID
    with pytest.raises(ValueError):
        ids.JobID.from_hex("no id")


def test_an_outcome_is_a_value_or_an_error():
    assert Outcome.of(int, "3").unwrap() == 3
    with pytest.raises(ValueError):
        Outcome.of(int, "x").unwrap()
