"""Which copies that nobody needs stay for a while, and which go."""

from __future__ import annotations

from orchestrator.gateway.spare_copies import COPIES_MAX, SPARE_S, SpareCopies

MIB = 1 << 20
PLENTY = 1000 * MIB


def spares(*sizes_mib: int) -> SpareCopies:
    """Copies `a`, `b`, ... of these sizes, from one second after the other, in a store of 100 MiB."""
    made = SpareCopies(100 * MIB)
    for number, size in enumerate(sizes_mib):
        made.add(bytes([ord("a") + number]), size * MIB, float(number))
    return made


def test_they_stay_while_they_are_in_nobodys_way() -> None:
    assert spares(10, 15).take_due(2.0, PLENTY) == []


def test_the_oldest_go_when_there_are_more_than_a_quarter() -> None:
    few = spares(10, 10, 10)
    assert few.take_due(3.0, PLENTY) == [b"a"]
    assert few.take_due(3.0, PLENTY) == [] and len(few) == 2


def test_they_make_room_until_a_quarter_is_free() -> None:
    few = spares(5, 5, 5)
    assert few.take_due(3.0, 16 * MIB) == [b"a", b"b"]


def test_nobody_has_wanted_one_for_long() -> None:
    few = spares(5, 5, 5)
    assert few.take_due(SPARE_S + 1.5, PLENTY) == [b"a", b"b"]


def test_who_is_needed_again_is_none_and_begins_anew() -> None:
    few = spares(20, 20)
    few.remove(b"a")
    few.remove(b"never was one")
    assert few.take_due(2.0, PLENTY) == []
    few.add(b"a", 20 * MIB, 2.0)
    assert few.take_due(2.0, PLENTY) == [b"b"], "the oldest now"


def test_one_that_is_told_twice_counts_once() -> None:
    few = spares(20)
    few.add(b"a", 20 * MIB, 1.0)
    assert few.take_due(1.0, PLENTY) == []


def test_there_is_a_limit_to_their_number() -> None:
    many = SpareCopies(100 * MIB)
    for number in range(COPIES_MAX + 3):
        many.add(number.to_bytes(4, "big"), 1, 0.0)
    assert len(many.take_due(1.0, PLENTY)) == 3


def test_all_go_when_memory_is_short() -> None:
    few = spares(1, 1)
    assert few.take_all() == [b"a", b"b"] and not few
    few.add(b"c", 25 * MIB, 0.0)
    assert few.take_due(0.0, PLENTY) == []
