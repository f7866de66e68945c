"""A reference that is given back when the object that stands for it goes."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

import plasma
from plasma.hold import Handle, Hold, StoreLink, handles
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


class Name(Handle):
    """A handle that counts how often it is looked into."""

    __slots__ = ()

    def _open(self, hold: Hold) -> list[bytes]:
        return [hold.object_id]


def test_a_handle_is_a_hold_until_it_is_looked_into() -> None:
    with temporary_store(1 << 20) as store:
        store.put_parts(A, [b"value"], referenced=True)
        name = Name(Hold(StoreLink(store), A), "runtime")
        assert not gc.is_tracked(name)
        known = name._entry
        assert known == [A]
        assert name._entry is known
        assert name._runtime == "runtime"
        assert not store.contains(A)  # what it was opened into has not kept the hold
        assert Name("known", None)._entry == "known"


def test_all_handles_are_listed_while_they_live() -> None:
    def mine() -> list[Handle]:
        return [one for one in handles() if type(one) is Name]

    names = [Name(number, None) for number in range(5)]
    assert mine() == names
    del names[3], names[0]
    assert [one._entry for one in mine()] == [1, 2, 4]
    names.clear()
    assert mine() == []


def test_a_handle_that_is_about_to_go_is_not_listed() -> None:
    seen: list[int] = []

    def note(_: object) -> None:
        seen.append(sum(type(one) is Name for one in handles()))

    name = Name(0, None)
    reference = weakref.ref(name, note)
    del name
    assert seen == [0]
    assert reference() is None


def test_threads_that_open_a_handle_at_once_agree() -> None:
    gate = threading.Barrier(2)

    class Slow(Handle):
        __slots__ = ()

        def _open(self, hold: Hold) -> object:
            gate.wait(10)
            return object()

    handle = Slow(Hold(StoreLink(None), A), None)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(handle._entry)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]


def test_a_handle_whose_opening_fails_can_be_opened_again() -> None:
    class Failing(Handle):
        __slots__ = ()
        failures = [ValueError("once")]

        def _open(self, hold: Hold) -> object:
            if self.failures:
                raise self.failures.pop()
            return "opened"

    handle = Failing(Hold(StoreLink(None), A), None)
    with pytest.raises(ValueError, match="once"):
        _ = handle._entry
    assert handle._entry == "opened"


def test_who_makes_a_handle_in_a_wrong_way_is_told_so() -> None:
    for wrong in ((), (b"x" * 28,), (1, 2, 3)):
        with pytest.raises(TypeError):
            Name(*wrong)
    with pytest.raises(TypeError):
        Name.__new__(Name)
    assert not [one for one in handles() if type(one) is Name]


def test_a_handle_that_can_be_in_a_circle_is_collected() -> None:
    class Open(Handle):
        pass

    with temporary_store(1 << 20) as store:
        store.put_parts(A, [b"value"], referenced=True)
        one = Open(Hold(StoreLink(store), A), None)
        one.me = one  # type: ignore[attr-defined]
        del one
        gc.collect()
        assert not store.contains(A)
