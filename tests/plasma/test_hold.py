"""A reference that is given back when the object that stands for it goes."""

from __future__ import annotations

import gc

import pytest

import plasma
from plasma.hold import Hold, StoreLink
from plasma.testing import temporary_store

A = b"\xa0" * 16


def test_the_object_goes_with_its_last_hold() -> None:
    with temporary_store(1 << 20) as store:
        link = StoreLink(store)
        assert store.take_ref(A) == plasma.ABSENT
        store.put_parts(A, [b"value"], referenced=True)
        first = Hold(link, A)
        assert store.take_ref(A) == plasma.SEALED
        second = Hold(link, A)
        del first
        assert store.contains(A)
        del second
        assert not store.contains(A)


def test_what_is_left_of_a_closed_store_gives_nothing_back() -> None:
    with temporary_store(1 << 20) as store:
        store.put_parts(A, [b"value"], referenced=True)
        hold = Hold(StoreLink(store), A)
    del hold  # closed, and the link was not cut


def test_a_hold_that_is_part_of_a_cycle_goes_with_it() -> None:
    with temporary_store(1 << 20) as store:
        store.put_parts(A, [b"value"], referenced=True)
        cycle: list[object] = [Hold(StoreLink(store), A)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert not store.contains(A)


@pytest.mark.parametrize("wrong", [(None, A), (StoreLink(None), None), (StoreLink(None), "text"), (1, A)])
def test_what_is_no_link_and_no_id(wrong: tuple[object, object]) -> None:
    with pytest.raises(TypeError):
        Hold(*wrong)  # type: ignore[arg-type]
