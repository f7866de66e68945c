"""`inspect_serializability`: which parts of a value cannot be sent."""

from __future__ import annotations

import io
import threading

import pytest

import orchestrator as ray
from orchestrator.util import inspect_serializability

lock_of_the_module = threading.Lock()


def inspect(value, **options):
    text = io.StringIO()
    ok, failures = inspect_serializability(value, print_file=text, **options)
    return ok, failures, text.getvalue()


def test_what_can_be_sent():
    ok, failures, text = inspect({"a": [1, 2]}, name="table")
    assert (ok, failures) == (True, set())
    assert text == "table: can be serialized\n"


def test_a_lock_in_a_closure_is_found():
    lock = threading.Lock()

    def uses_it():
        return lock

    ok, (failure,), text = inspect(uses_it)
    assert not ok
    assert failure.obj is lock
    assert failure.parent is uses_it
    assert "closure variable 'lock'" in failure.name
    assert "uses_it" in text


def test_several_culprits_are_all_found():
    first, second = threading.Lock(), threading.RLock()
    _, failures, _ = inspect({"a": first, "b": [second], "c": 3})
    assert {id(failure.obj) for failure in failures} == {id(first), id(second)}


def test_a_lock_in_an_attribute_of_a_captured_object():
    class Client:
        def __init__(self):
            self.lock = threading.Lock()

    client = Client()

    def call():
        return client

    _, (failure,), _ = inspect(call)
    assert failure.obj is client.lock
    assert failure.parent is client


def test_no_deeper_than_asked():
    value = {"a": {"b": {"c": threading.Lock()}}}
    _, (failure,), _ = inspect(value, depth=1)
    assert failure.obj is value["a"]


def test_it_says_what_it_found():
    _, (failure,), text = inspect([lock_of_the_module], name="items")
    assert "items: list cannot be serialized" in text
    assert "[0]: lock cannot be serialized" in text
    assert "FailureTuple(obj=<unlocked" in repr(failure)


def test_it_prints_unless_told_otherwise(capsys):
    inspect_serializability(3)
    assert "can be serialized" in capsys.readouterr().out


def test_depth_is_checked():
    with pytest.raises(ValueError, match="depth must be >= 1"):
        inspect_serializability(3, depth=0)


@pytest.mark.usefixtures("session")
def test_references_that_are_looked_at_are_not_kept():
    ref = ray.put([1, 2, 3])
    assert inspect([ref])[0]
    assert ref._runtime.references._pinned == []
