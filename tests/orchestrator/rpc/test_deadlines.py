"""Pauses, deadlines and explanations, without a clock."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rpc.deadlines import BackOff, Deadline, Explainer


@given(st.integers(0, 1000))
def test_pauses_grow_to_a_bound_and_begin_again(seed: int) -> None:
    back_off = BackOff(random.Random(seed), first_s=0.1, most_s=1.0)
    for bound_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert 0.0 <= back_off.next_s() <= bound_s
    back_off.reset()
    assert back_off.next_s() <= 0.1


def test_pauses_are_spread_over_the_whole_bound() -> None:
    firsts = [BackOff(random.Random(seed), first_s=1.0).next_s() for seed in range(200)]
    assert min(firsts) < 0.1 and max(firsts) > 0.9


def test_a_deadline() -> None:
    deadline = Deadline(10.0, 5.0)
    assert (deadline.left_s(12.0), deadline.left_s(99.0)) == (3.0, 0.0)
    assert not deadline.is_over(14.9) and deadline.is_over(15.0)


def test_a_long_wait_is_explained_ever_more_rarely() -> None:
    explainer = Explainer(first_s=5.0)
    said = [second for second in range(100) if explainer.waiting(float(second)) is not None]
    assert said == [5, 10, 20, 40, 80]
    assert explainer.over(100.0) == 100.0
    assert explainer.waiting(200.0) is None and explainer.over(201.0) is None
