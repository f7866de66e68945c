"""References in the order in which they become ready."""

from __future__ import annotations

import gc

import pytest

import orchestrator as ray
from orchestrator.api.completions import Completions
from orchestrator.util import as_completed, map_unordered
from orchestrator.util.synchronization import Event

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def same(value):
    return value


@ray.remote(num_cpus=0)
def after(event, value):
    event.wait()
    return value


@ray.remote
def fail(value):
    raise ValueError(value)


class TestAsCompleted:
    def test_what_is_ready_first_comes_first(self):
        gate = Event()
        late, early = after.remote(gate, "late"), same.remote("early")
        order = ray.as_completed([late, early])
        assert next(order) == early
        gate.set()
        assert next(order) == late
        assert list(order) == []

    def test_each_of_ten_thousand_comes_once(self):
        refs = [same.remote(number) for number in range(10_000)]
        assert sorted(ray.get(ref) for ref in ray.as_completed(refs)) == list(range(10_000))

    def test_a_failed_one_counts_as_ready(self):
        ref = fail.remote("on purpose")
        assert list(ray.as_completed([ref])) == [ref]

    def test_results_of_other_processes_come_too(self):
        @ray.remote
        def submit():
            return [same.remote(1), same.remote(2)]

        assert sorted(ray.get(ref) for ref in ray.as_completed(ray.get(submit.remote()))) == [1, 2]

    def test_a_timeout_says_what_is_waited_for(self):
        gate = Event()
        ref = after.remote(gate, 1)
        with pytest.raises(TimeoutError, match=r"none of 1 references .* after"):
            next(ray.as_completed([ref], timeout=0.05))
        gate.set()
        assert ray.get(ref) == 1

    def test_wrong_input_is_refused_at_the_call(self):
        ref = same.remote(1)
        with pytest.raises(TypeError, match="int"):
            ray.as_completed([ref, 3])
        with pytest.raises(ValueError, match="given before"):
            ray.as_completed([ref, ref])
        with pytest.raises(ValueError, match="timeout"):
            ray.as_completed([ref], timeout=-1)


class TestCompletions:
    def test_references_may_be_added_while_it_runs(self):
        pending = Completions([same.remote(3)])
        seen = []
        for ref in pending:
            value = ray.get(ref)
            seen.append(value)
            if value:
                pending.add(same.remote(value - 1))
        assert seen == [3, 2, 1, 0]

    def test_what_is_ready_now_without_waiting(self):
        gate = Event()
        late, early = after.remote(gate, 1), same.remote(2)
        ray.wait([early])
        pending = Completions([late, early])
        assert pending.ready_now() == [early]
        assert pending.ready_now() == []
        assert len(pending) == 1
        gate.set()
        assert ray.get(late) == 1

    def test_an_iteration_that_was_left_keeps_nothing(self):
        gate = Event()
        refs = [after.remote(gate, 1), same.remote(2), same.remote(3)]
        pending = Completions(refs)
        next(pending)
        entries = [ref._entry for ref in refs]
        del pending
        gc.collect()
        assert not entries[0].callbacks
        gate.set()
        ray.get(refs)


class TestTheNamesInUtil:
    def test_as_completed_yields_values(self):
        assert sorted(as_completed([same.remote(number) for number in range(25)])) == list(range(25))

    def test_or_references_if_asked(self):
        refs = [same.remote(number) for number in range(3)]
        assert set(as_completed(refs, yield_obj_refs=True, chunk_size=2)) == set(refs)

    def test_the_first_comes_before_a_chunk_is_full(self):
        """Other than in Ray, where the first result waits for nine others."""
        gate = Event()
        refs = [after.remote(gate, "late"), same.remote("early")]
        results = as_completed(refs, chunk_size=10)
        assert next(results) == "early"
        gate.set()
        assert list(results) == ["late"]

    def test_an_error_is_raised_where_it_comes(self):
        with pytest.raises(ValueError, match="seven"):
            list(as_completed([fail.remote("seven")]))

    def test_map_unordered(self):
        assert sorted(map_unordered(same, range(50))) == list(range(50))

    def test_map_unordered_runs_only_so_far_ahead(self):
        taken = []

        def items():
            for number in range(1_000_000_000):
                taken.append(number)
                yield number

        results = map_unordered(same, items(), backpressure_size=5, chunk_size=1)
        first = [next(results) for _ in range(20)]
        assert len(set(first)) == 20
        assert len(taken) <= 26

    @pytest.mark.parametrize("size", [1, 5])
    def test_any_backpressure_will_do_whatever_the_chunk_size(self, size):
        assert sorted(map_unordered(same, range(12), backpressure_size=size)) == list(range(12))

    def test_map_unordered_over_an_actor_s_method(self):
        @ray.remote
        class Adder:
            def add(self, number):
                return number + 1

        adder = Adder.remote()
        assert sorted(map_unordered(adder.add.remote, [1, 2])) == [2, 3]

    @pytest.mark.parametrize(
        ("sizes", "reason"),
        [
            ({"chunk_size": 0}, "chunk_size must be >= 1"),
            ({"backpressure_size": 0}, "backpressure_size must be >= 1"),
        ],
    )
    def test_sizes_out_of_range(self, sizes, reason):
        with pytest.raises(ValueError, match=reason):
            map_unordered(same, [1], **sizes)
