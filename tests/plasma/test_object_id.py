"""Ids are unique in every thread and process, and nothing else passes for one."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plasma import object_id


def test_ids_are_16_bytes_and_differ():
    made = {object_id.new() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {len(one) for one in made} == {object_id.SIZE_BYTES}


def test_threads_never_draw_the_same():
    made: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: made.extend(object_id.new() for _ in range(2000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process that may have threads
def test_a_forked_child_draws_others_than_its_parent():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(object_id.new() for _ in range(10)))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    data = os.read(reading, 160)
    os.close(reading)
    of_child = {data[start : start + 16] for start in range(0, 160, 16)}
    assert len(of_child) == 10
    assert not of_child & {object_id.new() for _ in range(100)}


@given(st.binary(), st.binary())
def test_derived_ids_depend_on_the_bytes_alone(one, other):
    assert object_id.check(object_id.derive(one)) == object_id.derive(bytearray(one))
    assert (object_id.derive(one) == object_id.derive(other)) == (one == other)


@given(st.binary(min_size=16, max_size=16))
def test_hex_and_back(one):
    assert object_id.from_hex(object_id.to_hex(one)) == one
    assert len(object_id.to_hex(one)) == 32


@pytest.mark.parametrize("text", ["", "xy", "00" * 15, "00" * 17, "g" * 32])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="object id"):
        object_id.from_hex(text)


@pytest.mark.parametrize(
    "value, error", [("0" * 16, TypeError), (None, TypeError), (bytearray(16), TypeError), (b"", ValueError)]
)
def test_check_refuses_what_is_no_id(value, error):
    with pytest.raises(error, match="an object id"):
        object_id.check(value)
