"""The oldest go first, no more than needed, and nobody in vain; the real store agrees with the pure rule."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from plasma import object_id as ids
from plasma.eviction import Candidate, choose_victims
from plasma.testing import temporary_store

candidates = st.builds(
    Candidate, st.binary(min_size=16, max_size=16), st.integers(1, 1000), st.integers(0, 5)
)
lists = st.lists(candidates, unique_by=lambda candidate: candidate.object_id)


@given(lists, st.integers(0, 3000))
def test_victims_are_the_oldest_and_no_more_than_needed(given_candidates, need_bytes):
    victims = choose_victims(given_candidates, need_bytes)
    if victims is None:
        assert sum(one.size_bytes for one in given_candidates) < need_bytes
        return
    assert sum(one.size_bytes for one in victims) >= need_bytes
    assert sum(one.size_bytes for one in victims[:-1]) < max(need_bytes, 1)
    spared = set(given_candidates) - set(victims)
    assert all(gone.used_at <= kept.used_at for gone in victims for kept in spared)


@given(lists)
def test_the_choice_does_not_depend_on_the_order_of_the_candidates(given_candidates):
    assert choose_victims(given_candidates, 500) == choose_victims(given_candidates[::-1], 500)


def test_nothing_is_needed():
    assert choose_victims([], 0) == []
    assert choose_victims([Candidate(bytes(16), 1, 0)], 0) == []


SIZE = 64 << 10


#: Linux's number; the time module has no name for it
CLOCK_MONOTONIC_COARSE = 6


def next_tick() -> None:
    """Return when the coarse clock that the store dates uses with has moved on."""
    now = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
    while time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) == now:
        pass


@settings(max_examples=10)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_the_store_evicts_what_the_rule_says(order_of_use, count):
    """Objects of one size, used in some order; then others are put until ``count`` of them are gone."""
    with temporary_store(size_bytes=16 * SIZE) as store:
        objects = [ids.new() for _ in order_of_use]
        for object_id in objects:
            store.put_parts(object_id, [bytes(SIZE)])
        for index in order_of_use:
            next_tick()
            assert store.try_get(objects[index]) is not None
        next_tick()
        gone: set[bytes] = set()
        while len(gone) < count:
            store.put_parts(ids.new(), [bytes(SIZE)])
            gone = {object_id for object_id in objects if not store.contains(object_id)}
        used_at = {objects[index]: step for step, index in enumerate(order_of_use)}
        # The store may make a little more room than was asked for: what counts is that the oldest went.
        victims = choose_victims((Candidate(one, SIZE, used_at[one]) for one in objects), len(gone) * SIZE)
        assert gone == {victim.object_id for victim in victims or []}
