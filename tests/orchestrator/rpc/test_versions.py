"""Who can work together."""

from __future__ import annotations

from orchestrator.rpc.versions import (
    PROTOCOL_KEY,
    PYTHON_KEY,
    Versions,
    from_metadata,
    objection,
    own_versions,
)

HEAD = Versions(3, "3.11")


def test_the_same_is_no_objection() -> None:
    assert objection(HEAD, HEAD) == ""
    assert from_metadata(dict(own_versions().metadata())) == own_versions()


def test_both_sides_are_named() -> None:
    assert "node speaks protocol 2 and the head 3" in objection(HEAD, Versions(2, "3.11"))
    assert "the node has the older" in objection(HEAD, Versions(2, "3.11"))
    assert "the head has the older" in objection(HEAD, Versions(4, "3.11"))
    text = objection(HEAD, Versions(3, "3.12"))
    assert "node runs Python 3.12 and the head Python 3.11" in text and "start it with Python 3.11" in text


def test_nonsense_says_nothing() -> None:
    for headers in (
        {},
        {PROTOCOL_KEY: "x", PYTHON_KEY: "3.11"},
        {PROTOCOL_KEY: "1"},
        {PROTOCOL_KEY: "²", PYTHON_KEY: "3"},
    ):
        assert from_metadata(headers) is None
    assert "no node of an orchestrator cluster" in objection(HEAD, None)
