"""Every message has its protobuf, field by field, and comes out as it went in."""

from __future__ import annotations

import types
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests, wire
from orchestrator.rpc.codec import Union, UnknownMessage, snake_case
from orchestrator.rpc.generated import gcs_pb2 as pb

UNIONS = {
    "FromNode": (messages.FromNode, wire.FROM_NODE, pb.FromNode),
    "ToNode": (messages.ToNode, wire.TO_NODE, pb.ToNode),
    "Request": (requests.Request, wire.REQUEST, pb.Request),
    "Answer": (requests.Answer, wire.ANSWER, pb.Answer),
}
#: Fields of the envelope that are no kinds.
ENVELOPE = {"node", "number", "answered_below"}
texts = st.text(st.characters(codec="utf-8"), max_size=5)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    bytes: st.binary(max_size=5),
    bool: st.booleans(),
    int: st.integers(0, 60_000),
    float: st.floats(allow_nan=False),
    ResourceSet: st.dictionaries(texts, st.integers(-(2**40), 2**40), max_size=3).map(ResourceSet),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(texts, values_of(arguments[1]), max_size=3)
    if origin in (typing.Union, types.UnionType):
        return st.none() | values_of(arguments[0])
    hints = typing.get_type_hints(hint)
    return st.builds(hint, *[values_of(hints[name]) for name in hint._fields])


@pytest.mark.parametrize("name", UNIONS)
@given(data=st.data())
def test_what_goes_in_comes_out(name: str, data: st.DataObject) -> None:
    union, codec, message_class = UNIONS[name]
    cls = data.draw(st.sampled_from(typing.get_args(union)))
    value = data.draw(values_of(cls))
    assert codec.take(message_class.FromString(codec.put(value).SerializeToString())) == value


@pytest.mark.parametrize("name", UNIONS)
def test_both_sides_have_the_same_kinds_and_fields(name: str) -> None:
    union, _, message_class = UNIONS[name]
    kinds = {snake_case(cls.__name__): cls for cls in typing.get_args(union)}
    fields = {field.name: field for field in message_class.DESCRIPTOR.fields if field.name not in ENVELOPE}
    assert kinds.keys() == fields.keys()
    for field_name, cls in kinds.items():
        message = fields[field_name].message_type
        assert message.name == cls.__name__
        assert {field.name for field in message.fields} == set(cls._fields), cls.__name__


def test_a_message_of_a_newer_version_is_no_crash() -> None:
    with pytest.raises(UnknownMessage, match="a ToNode of a kind that is not known"):
        wire.TO_NODE.take(pb.ToNode())
    newer = pb.ToNode.FromString(b"\xfa\x07\x02\x08\x01")  # a field with the number 127
    with pytest.raises(UnknownMessage):
        wire.TO_NODE.take(newer)


def test_a_union_of_its_own() -> None:
    codec = Union(requests.Done | requests.Refused, pb.Answer)
    assert codec.take(codec.put(requests.Refused("unknown", "why"))) == requests.Refused("unknown", "why")
