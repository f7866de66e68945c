"""How tasks are used: each test is one idea, as a program would have it."""

from __future__ import annotations

import os

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import TaskError

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes, pytest.mark.elsewhere_too]


@ray.remote
def square(x):
    return x * x


@ray.remote
def add(a, b=0):
    return a + b


class TestALoopMadeParallel:
    def test_a_decorator_and_remote_are_all_it_takes(self):
        refs = [square.remote(i) for i in range(8)]  # starts them all
        assert ray.get(refs) == [0, 1, 4, 9, 16, 25, 36, 49]

    def test_the_function_itself_can_still_be_called(self):
        assert square(3) == 9

    @pytest.mark.not_inline("there are no other processes")
    def test_work_is_done_in_other_processes(self):
        @ray.remote
        def pid():
            return os.getpid()

        assert os.getpid() not in ray.get([pid.remote() for _ in range(4)])

    @pytest.mark.not_inline("one task runs after the other")
    def test_two_tasks_run_at_the_same_time(self):
        @ray.remote
        def meet(path, mine, other):
            open(f"{path}/{mine}", "w").close()
            while not os.path.exists(f"{path}/{other}"):
                pass
            return True

        import tempfile

        with tempfile.TemporaryDirectory() as path:
            assert ray.get([meet.remote(path, "a", "b"), meet.remote(path, "b", "a")], timeout=30) == [
                True,
                True,
            ]

    def test_a_thousand_tasks(self):
        assert ray.get([add.remote(i, b=1) for i in range(1000)]) == list(range(1, 1001))


class TestPutAndGet:
    def test_one_value(self):
        ref = ray.put({"answer": 42})
        assert ray.get(ref) == {"answer": 42}

    def test_a_list_of_references(self):
        refs = [ray.put(i) for i in range(5)]
        assert ray.get(refs) == [0, 1, 2, 3, 4]
        assert ray.get([]) == []

    def test_what_get_returns_is_ones_own(self):
        ref = ray.put([1, 2])
        ray.get(ref).append(3)
        assert ray.get(ref) == [1, 2]

    @pytest.mark.parametrize(
        "value", [None, True, 7, 2.5, "text", b"bytes", "x" * 5000, (1, [2, {"three": 3}]), {1, 2}, 10**400]
    )
    def test_values_of_all_kinds(self, value):
        assert ray.get(ray.put(value)) == value
        assert ray.get(add.remote(value, 0)) == value if isinstance(value, (int, float)) else True

    def test_large_values(self):
        array = np.arange(1_000_000)
        assert np.array_equal(ray.get(ray.put(array)), array)
        assert ray.get(ray.put(b"x" * 10_000_000)) == b"x" * 10_000_000


class TestReferencesAsArguments:
    def test_at_the_top_they_are_replaced_by_values(self):
        total = add.remote(square.remote(3), b=square.remote(4))
        assert ray.get(total) == 25

    def test_a_chain_is_submitted_at_once(self):
        ref = ray.put(0)
        for _ in range(50):
            ref = add.remote(ref, 1)
        assert ray.get(ref) == 50

    def test_inside_a_list_they_stay_references(self):
        @ray.remote
        def kinds(items):
            return [type(item).__name__ for item in items], sum(ray.get(items))

        assert ray.get(kinds.remote([ray.put(1), square.remote(2)])) == (["ObjectRef", "ObjectRef"], 5)

    def test_a_task_may_start_before_a_nested_one_is_ready(self):
        @ray.remote
        def wait_inside(box):
            return ray.get(box["ref"]) + 1

        @ray.remote
        def slowly():
            import time

            time.sleep(0.2)
            return 1

        assert ray.get(wait_inside.remote({"ref": slowly.remote()}), timeout=20) == 2

    def test_captured_by_a_closure(self):
        table = ray.put(np.arange(10))

        @ray.remote
        def lookup(i):
            return int(ray.get(table)[i])

        assert ray.get([lookup.remote(i) for i in (3, 7)]) == [3, 7]

    def test_large_arguments_and_results(self):
        array = np.ones((1000, 1000))
        assert ray.get(add.remote(array, 1)).sum() == 2_000_000
        assert ray.get(add.remote(ray.put(array), 1)).sum() == 2_000_000

    def test_references_in_results(self):
        @ray.remote
        def nest():
            return [ray.put("inner"), square.remote(5)]

        inner = ray.get(nest.remote())
        assert ray.get(inner, timeout=20) == ["inner", 25]


class TestNestedCalls:
    def test_a_task_submits_tasks(self):
        @ray.remote
        def total(n):
            return sum(ray.get([square.remote(i) for i in range(n)]))

        assert ray.get(total.remote(10), timeout=20) == 285

    def test_recursion_deeper_than_the_cpus(self):
        """A parent that waits gives its CPU back, so a hundred of them on two CPUs do not wait for ever."""

        @ray.remote
        def down(n):
            return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

        assert ray.get(down.remote(100), timeout=100) == 100


class TestFairQueues:
    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_short_tasks_do_not_wait_behind_one_that_turns_out_long(self, tmp_path):
        @ray.remote
        def maybe_wait(path):
            while path and not os.path.exists(path):
                pass
            return path

        ray.get([maybe_wait.remote(None) for _ in range(100)])  # known to be short from now on
        long = maybe_wait.remote(str(tmp_path / "go"))
        assert ray.get([maybe_wait.remote(None) for _ in range(100)], timeout=30) == [None] * 100
        assert ray.wait([long], timeout=0) == ([], [long])
        (tmp_path / "go").touch()
        ray.get(long, timeout=20)

    def test_thousands_of_arguments_and_results(self):
        @ray.remote
        def count(*values):
            return len(values)

        assert ray.get(count.remote(*[ray.put(i) for i in range(10_000)]), timeout=60) == 10_000

        @ray.remote(num_returns=3000)
        def many():
            return ["text" * 20] * 3000

        assert set(ray.get(many.remote(), timeout=60)) == {"text" * 20}


class TestSeveralResults:
    def test_num_returns(self):
        @ray.remote(num_returns=3)
        def three():
            return 1, 2, 3

        a, b, c = three.remote()
        assert ray.get([c, b, a]) == [3, 2, 1]

    def test_none_at_all(self):
        assert square.options(num_returns=0).remote(1) is None

    @pytest.mark.parametrize("values", [(1,), (1, 2, 3), 5])
    def test_a_wrong_number_is_an_error_in_every_reference(self, values):
        @ray.remote(num_returns=2)
        def wrong():
            return values

        for ref in wrong.remote():
            with pytest.raises(ValueError, match="num_returns=2"):
                ray.get(ref)


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class TestCustomClasses:
    def test_instances_travel_both_ways(self):
        @ray.remote
        def mirror(point):
            return Point(point.y, point.x)

        assert (lambda p: (p.x, p.y))(ray.get(mirror.remote(Point(1, 2)))) == (2, 1)

    def test_classes_and_lambdas_that_cannot_be_imported(self):
        class Local:
            def value(self):
                return 17

        @ray.remote
        def use(thing, function):
            return function(thing.value())

        assert ray.get(use.remote(Local(), lambda v: v + 1)) == 18


class TestAwaitingAndFutures:
    def test_await(self):
        import asyncio

        async def program():
            return await square.remote(3), await asyncio.gather(*[square.remote(i) for i in range(5)])

        assert asyncio.run(program()) == (9, [0, 1, 4, 9, 16])

    def test_a_future_and_a_callback(self):
        import threading

        assert square.remote(5).future().result(timeout=20) == 25
        called = threading.Event()
        square.remote(6).add_done_callback(lambda ref: called.set())
        assert called.wait(20)

    def test_an_async_function_is_a_task_too(self):
        @ray.remote
        async def later(x):
            import asyncio

            await asyncio.sleep(0)
            return x

        assert ray.get(later.remote(4)) == 4

    def test_done_and_exception(self):
        ref = square.remote(2)
        assert ref.exception() is None and ref.done()
        bad = add.remote("text", 1)
        assert isinstance(bad.exception(), TypeError)


class TestWait:
    def test_at_most_num_returns_are_ready(self):
        refs = [ray.put(i) for i in range(4)]
        ready, rest = ray.wait(refs, num_returns=2)
        assert (ready, rest) == (refs[:2], refs[2:])

    def test_the_order_is_kept_and_failures_count(self):
        bad = add.remote("text", 1)
        good = square.remote(2)
        ready, rest = ray.wait([bad, good], num_returns=2, timeout=20)
        assert ready == [bad, good] and rest == []

    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_a_look_without_waiting(self, tmp_path):
        ref = until_there.remote(str(tmp_path / "flag"))
        assert ray.wait([ref], timeout=0) == ([], [ref])
        (tmp_path / "flag").touch()
        assert ray.wait([ref], timeout=20) == ([ref], [])

    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_in_order_of_completion(self, tmp_path):
        slow = until_there.remote(str(tmp_path / "flag"))
        fast = square.remote(1)
        order = []
        for ref in ray.as_completed([slow, fast], timeout=20):
            order.append(ref)
            (tmp_path / "flag").touch()
        assert order == [fast, slow]


@ray.remote
def until_there(path):
    import time

    while not os.path.exists(path):
        time.sleep(0.005)
    return path


class TestProgress:
    def test_it_waits_for_all_and_writes_plain_lines_into_a_log(self, capsys):
        refs = [square.remote(i) for i in range(5)]
        assert ray.progress(refs, description="squares") == refs
        assert ray.get(refs) == [0, 1, 4, 9, 16]
        assert "squares: 5/5" in capsys.readouterr().err


class TestContext:
    def test_a_task_knows_its_name(self):
        @ray.remote
        def who():
            context = ray.get_runtime_context()
            return context.get_task_name(), context.get_task_id()

        ref = who.remote()
        name, task_id = ray.get(ref)
        assert name.endswith("who") and task_id == ref.hex()

    def test_what_the_session_has(self):
        assert ray.cluster_resources()["CPU"] == 2.0
        assert 0 <= ray.available_resources().get("CPU", 0) <= 2.0


class TestErrors:
    def test_the_users_exception_class_can_be_caught(self):
        @ray.remote
        def fail():
            raise KeyError("missing")

        with pytest.raises(KeyError) as caught:
            ray.get(fail.remote())
        error = caught.value
        assert isinstance(error, TaskError) and isinstance(error.cause, KeyError)
        assert "raise KeyError" in str(error) and "[remote: " in str(error) and "pid" in str(error)
        assert "orchestrator/core" not in str(error), "the traceback has the user's frames only"

    def test_the_traceback_through_nested_tasks_tells_each_step_once(self):
        @ray.remote
        def inner():
            raise KeyError("missing")

        @ray.remote
        def outer():
            return ray.get(inner.remote())

        with pytest.raises(KeyError) as caught:
            ray.get(outer.remote())
        text = str(caught.value)
        assert text.count("raise KeyError") == 1 and text.count("ray.get(inner.remote())") == 1
        assert "The above exception" not in text
        assert not any(f"orchestrator{os.sep}{part}{os.sep}" in text for part in ("api", "core"))

    def test_a_failed_dependency_fails_its_dependents_without_running_them(self, tmp_path):
        @ray.remote
        def fail():
            raise ValueError("first")

        @ray.remote
        def mark(_):
            (tmp_path / "ran").touch()

        ref = fail.remote()
        for _ in range(5):
            ref = mark.remote(ref)
        with pytest.raises(ValueError, match="first"):
            ray.get(ref, timeout=20)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.not_inline("a task that waits for what its caller does next would wait for ever")
    def test_the_first_failure_is_raised_without_waiting_for_the_rest(self, tmp_path):
        slow = until_there.remote(str(tmp_path / "flag"))
        bad = add.remote("text", 1)
        with pytest.raises(TypeError):
            ray.get([slow, bad], timeout=20)
        (tmp_path / "flag").touch()
        ray.get(slow)
