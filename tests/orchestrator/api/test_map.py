"""`map`: a function over many arguments, tiny calls sent in batches."""

from __future__ import annotations

import itertools
import os
import time

import pytest

import orchestrator as ray
from orchestrator.api import mapping

pytestmark = pytest.mark.usefixtures("shared_session")


def double(value):
    return 2 * value


def odd_fails(value):
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class TestResults:
    def test_they_come_in_the_order_of_the_items(self):
        assert list(ray.map(double, range(10_000))) == list(range(0, 20_000, 2))

    def test_or_as_they_come(self):
        assert sorted(ray.map(double, range(10_000), ordered=False)) == list(range(0, 20_000, 2))

    def test_of_several_iterables_the_shortest_ends_it(self):
        assert list(ray.map(pow, [2, 3, 4], itertools.count(1))) == [2, 9, 64]

    def test_nothing_gives_nothing(self):
        assert list(ray.map(double, [])) == []

    def test_any_callable_will_do(self):
        offset = 5
        assert list(ray.map(lambda x: x + offset, [1, 2])) == [6, 7]
        assert list(ray.map("-".join, [["a", "b"]])) == ["a-b"]

    def test_a_remote_function_with_its_options(self):
        @ray.remote(num_cpus=2)
        def where(_):
            return os.getpid()

        assert os.getpid() not in set(ray.map(where, range(10)))

    def test_references_among_the_items_become_values(self):
        assert list(ray.map(double, [1, ray.put(2), 3])) == [2, 4, 6]

    def test_references_inside_an_item_stay_references(self):
        assert list(ray.map(lambda items: ray.get(items[0]), [[ray.put("inside")]])) == ["inside"]


class TestErrors:
    def test_the_first_in_order_is_raised_and_ends_it(self):
        results = ray.map(odd_fails, [0, 2, 3, 4, 5])
        assert [next(results), next(results)] == [0, 2]
        with pytest.raises(ValueError, match="3 is odd") as caught:
            next(results)
        assert isinstance(caught.value, ray.exceptions.TaskError)
        assert list(results) == []

    def test_or_takes_its_place_among_the_results(self):
        zero, one, two = ray.map(odd_fails, range(3), return_exceptions=True)
        assert (zero, two) == (0, 2)
        assert isinstance(one, ValueError)

    def test_a_failed_reference_fails_its_own_call_only(self):
        @ray.remote
        def fail():
            raise KeyError("gone")

        one, two, three = ray.map(double, [1, fail.remote(), 3], return_exceptions=True)
        assert (one, three) == (2, 6)
        assert isinstance(two, KeyError)

    def test_a_process_that_dies_fails_the_calls_of_its_batch(self):
        outcomes = list(
            ray.map(lambda x: x or os._exit(3), [0, 1], batch_size=1, return_exceptions=True, max_retries=0)
        )
        assert isinstance(outcomes[0], ray.exceptions.WorkerCrashedError)
        assert outcomes[1] == 1

    def test_time_runs_out(self):
        with pytest.raises(TimeoutError):
            list(ray.map(time.sleep, [30, 30], timeout=0.1))

    @pytest.mark.parametrize(
        ("function", "iterables", "options", "error", "reason"),
        [
            (double, [], {}, TypeError, "at least one iterable"),
            (3, [[1]], {}, TypeError, "callable, not int"),
            (double, [3], {}, TypeError, "iterable"),
            (double, [[1]], {"batch_size": 0}, ValueError, "batch_size must be an int >= 1, not 0"),
            (double, [[1]], {"max_in_flight": -1}, ValueError, "max_in_flight"),
            (double, [[1]], {"timeout": -1}, ValueError, "timeout must be >= 0"),
            (double, [[1]], {"cpus": 1}, ValueError, "'cpus' is not an option of a task"),
            (double, [[1]], {"num_returns": 2}, ValueError, "num_returns must be 1"),
        ],
    )
    def test_wrong_input_is_refused_at_the_call(self, function, iterables, options, error, reason):
        with pytest.raises(error, match=reason):
            ray.map(function, *iterables, **options)


class TestBatches:
    def test_tiny_calls_are_sent_together(self):
        """A thousand calls of a microsecond are no thousand tasks."""
        batches = set(ray.map(lambda _: ray.get_runtime_context().get_task_id(), range(1000)))
        assert len(batches) < 200

    def test_long_ones_one_by_one(self):
        def slow(_):
            time.sleep(2 * mapping.BATCH_S)
            return ray.get_runtime_context().get_task_id()

        assert len(set(ray.map(slow, range(12)))) == 12

    def test_the_size_can_be_given(self):
        batches = list(ray.map(lambda _: ray.get_runtime_context().get_task_id(), range(10), batch_size=5))
        assert len(set(batches[:5])) == len(set(batches[5:])) == 1
        assert len(set(batches)) == 2


class TestEndlessItems:
    def test_only_so_many_are_read_ahead(self):
        read = []

        def items():
            for number in itertools.count():
                read.append(number)
                yield number

        results = ray.map(double, items(), max_in_flight=10)
        assert [next(results) for _ in range(100)] == list(range(0, 200, 2))
        assert len(read) <= 111
        results.close()

    def test_without_a_limit_given_there_is_one(self):
        results = ray.map(double, itertools.count())
        assert [next(results) for _ in range(5000)] == list(range(0, 10_000, 2))
        results.close()

    def test_what_has_not_begun_when_it_is_closed_never_does(self, tmp_path):
        def touch(number):
            (tmp_path / str(number)).touch()
            time.sleep(0.05)

        results = ray.map(touch, range(8), batch_size=1)
        next(results)
        results.close()
        ray.get(ray.remote(double).remote(1))  # whoever was running has ended
        assert len(list(tmp_path.iterdir())) < 8
