"""Rows of the storage: read again, also by a version that knows other fields."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import records
from orchestrator.gcs.group_records import StoredGroup, StoredPart
from orchestrator.gcs.jobs import StoredJob
from orchestrator.gcs.messages import DrainNode, NodeSpec
from orchestrator.gcs.nodes import StoredNode
from orchestrator.gcs.requests import GroupSpec, Job, LabelSelector, Name

ONE = ResourceSet.from_floats({"CPU": 1})
RECORDS = [
    Name("object", "ns", "é", "id", 3, bytes(range(256)), "job", True),
    StoredNode(3, NodeSpec("0" * 16, "h", {"objects": "h:1"}, ONE, {"a": "b"}, True), "DEAD", None, "why"),
    StoredNode(3, NodeSpec("0" * 16, "h", {}, ONE, {}, False), "ALIVE", DrainNode("why", 2.5)),
    StoredJob(Job("j", 1, "ns"), (1, 2)),
    StoredGroup(
        GroupSpec("g", "n", "ns", "PACK", (ONE, ONE), "j", False, (LabelSelector({"zone": "a"}),)),
        4, "CREATED", "", 2, (StoredPart(1, 2, "COMMITTED", (0, 1)),), (9,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_read(record: object) -> None:
    data = records.dump(record)
    json.loads(data)
    assert records.load(type(record), data) == record


@given(st.binary(max_size=30), st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_bytes_and_texts(blob: bytes, text: str) -> None:
    name = Name("object", text, text, text, 1, blob)
    assert records.load(Name, records.dump(name)) == name


class Older(NamedTuple):
    kept: int


class Newer(NamedTuple):
    kept: int
    added: str = "default"


def test_fields_may_come_and_go() -> None:
    assert records.load(Newer, records.dump(Older(5))) == Newer(5, "default")
    assert records.load(Older, records.dump(Newer(5, "x"))) == Older(5)
