"""Control messages: what is understood, and what garbage gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import (
    InBundle,
    OnNode,
    Placement,
    SchedulingClass,
    WithLabels,
    selector_of,
)
from orchestrator.node.control import FIELDS, WANT_MAX, BadMessage, decode


def encode(**message: Any) -> bytes:
    return json.dumps(message).encode()


def test_a_lease() -> None:
    half = ResourceSet.from_floats({"CPU": 0.5})
    op, fields = decode(encode(op="lease", **{"class": "f"}, resources={"CPU": 0.5}, want=3))
    assert (op, fields.pop("class"), fields.pop("want"), fields.pop("near")) == ("lease", "f", 3, 0)
    assert SchedulingClass(**fields) == SchedulingClass(half), "what is plain may be left out"


@pytest.mark.parametrize(
    "placement", [None, InBundle("ab", 1), OnNode("cd", soft=True), WithLabels((selector_of({"k": "!v"}),))]
)
def test_a_scheduling_class_survives_the_journey(placement: Placement | None) -> None:
    made = SchedulingClass(ResourceSet.from_floats({"CPU": 1}), "env", placement, -3, retriable=False)
    _, fields = decode(encode(op="lease", **{"class": "f"}, **made.to_message(), want=0))
    assert SchedulingClass(**{name: fields[name] for name in SchedulingClass._fields}) == made


@pytest.mark.parametrize("nonsense", [3, {}, {"group": "a"}, {"node": "a"}, {"labels": [{"k": 1}]}])
def test_a_placement_that_is_none(nonsense: object) -> None:
    with pytest.raises(BadMessage, match="'placement' is not a placement"):
        decode(encode(op="lease", **{"class": "f"}, resources={}, placement=nonsense, want=1))


def test_what_may_be_left_out_has_a_default() -> None:
    _, fields = decode(encode(op="create_actor", actor="aa", resources={}, hold={}, req=1))
    assert fields["name"] is None and fields["get_if_exists"] is False and fields["handle"] == ""


def test_fields_from_the_future_are_ignored() -> None:
    assert decode(encode(op="return", worker=5, why="idle")) == ("return", {"worker": 5})


def test_very_many_is_a_number() -> None:
    _, fields = decode(encode(op="lease", **{"class": 1}, resources={}, want=10**12))
    assert fields["want"] == WANT_MAX


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON|not an object"),
        (b"[]", "not an object"),
        (b"{}", "unknown op None"),
        (b'{"op": ["lease"]}', "unknown op"),
        (b'{"op": "format"}', "unknown op 'format'"),
        (b'{"op": "return"}', "return: 'worker' is missing"),
        (b'{"op": "return", "worker": "7"}', "return: 'worker' is not an integer"),
        (b'{"op": "return", "worker": -7}', "is not an integer >= 0"),
        (b'{"op": "return", "worker": true}', "is not an integer"),
        (b'{"op": "return", "worker": 99999999999999999999}', "is not an integer"),
        (b'{"op": "lease", "class": 1.5, "resources": {}, "want": 1}', "neither a text nor an integer"),
        (b'{"op": "lease", "class": 1, "resources": [], "want": 1}', "'resources' is not an object"),
        (b'{"op": "lease", "class": 1, "resources": {"CPU": -1}, "want": 1}', "'CPU'"),
        (b'{"op": "lease", "class": 1, "resources": {"CPU": NaN}, "want": 1}', "nan"),
        (b'{"op": "lease", "class": 1, "resources": {"CPU": 1e999}, "want": 1}', "inf"),
        (b'{"op": "lease", "class": 1, "resources": {"CPU": 1e300}, "want": 1}', "'CPU'"),
        (b'{"op": "lease", "class": 1, "resources": {"CPU": "1"}, "want": 1}', "'1'"),
        (b'{"op": "kill_actor", "actor": "aa", "no_restart": 1}', "neither true nor false"),
        (b'{"op": "get_actor", "name": null, "req": 1}', "'name' is not a text"),
    ],
)
def test_garbage_is_refused_with_the_reason(payload: bytes, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        decode(payload)


def test_a_bad_request_can_still_be_answered() -> None:
    with pytest.raises(BadMessage) as caught:
        decode(b'{"op": "get_actor", "req": 12}')
    assert caught.value.request == 12


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
field_names = sorted({name for fields in FIELDS.values() for name in fields})


@given(
    op=st.sampled_from(sorted(FIELDS)),
    fields=st.dictionaries(st.sampled_from(field_names), json_values, max_size=8),
)
def test_whatever_comes_it_is_understood_or_refused(op: str, fields: dict[str, Any]) -> None:
    try:
        decode(encode(**{**fields, "op": op}))
    except BadMessage:
        pass


@given(st.binary(max_size=200))
def test_bytes_are_understood_or_refused(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(payload)
