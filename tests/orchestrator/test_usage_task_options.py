"""The options of tasks: what each one does, and what a wrong one gets."""

from __future__ import annotations

import functools
import os
import signal
import time

import pytest

import orchestrator as ray
from orchestrator.exceptions import TaskTimeoutError, WorkerCrashedError
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
def one():
    return 1


@ray.remote
def pid():
    return os.getpid()


@functools.lru_cache
def cached(x):
    return x + 1


def attempts_in(path):
    """The number of this attempt, counted by files, as a task's attempts share no memory."""
    number = len(list(path.iterdir()))
    (path / str(number)).touch()
    return number


class TestOptionsAreCheckedWhereTheyAreGiven:
    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"num_cpus": -1}, ValueError, "num_cpus"),
            ({"num_cpus": 0.00001}, ValueError, "finer"),
            ({"memory": 2**50}, ValueError, "too much: it must be below"),
            ({"num_gpus": 1.5}, ValueError, "whole"),
            ({"num_returns": "many"}, ValueError, "streaming"),
            ({"num_returns": 1.0}, TypeError, "num_returns"),
            ({"max_retries": -2}, ValueError, "max_retries"),
            ({"max_calls": -1}, ValueError, "max_calls"),
            ({"max_calls": "1"}, TypeError, "max_calls"),
            ({"name": 5}, TypeError, "name"),
            ({"timeout_s": 0}, ValueError, "timeout_s"),
            ({"timeout_s": "1"}, TypeError, "timeout_s"),
            ({"retry_exceptions": [int]}, TypeError, "exception classes"),
            ({"retry_exceptions": ValueError}, TypeError, "list"),
            ({"retry_policy": 3}, TypeError, "RetryPolicy"),
            ({"generator_backpressure": 0}, ValueError, "generator_backpressure"),
            ({"_generator_backpressure_num_objects": 0}, ValueError, "_generator_backpressure_num_objects"),
            ({"enable_task_events": 1}, TypeError, "enable_task_events"),
            ({"resources": {"GPU": 1}}, ValueError, "num_gpus"),
            ({"max_concurrency": 1}, ValueError, "not an option of a task"),
        ],
    )
    def test_a_wrong_value_is_refused_at_once(self, options, error, text):
        def function():
            return 1

        with pytest.raises(error, match=text):
            ray.remote(**options)(function)
        with pytest.raises(error, match=text):
            one.options(**options)

    def test_a_retry_policy_checks_itself(self):
        with pytest.raises(ValueError, match="factor"):
            ray.RetryPolicy(factor=0.5)
        with pytest.raises(TypeError, match="delay_s"):
            ray.RetryPolicy(delay_s="1")
        assert [ray.RetryPolicy(1, 2, 5, jitter=0).pause_s(n) for n in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]

    def test_options_leave_the_original_as_it_is(self):
        two = one.options(num_returns=1, name="two")
        assert two is not one and one.options(num_returns=1, name="two") is two
        assert ray.get([one.remote(), two.remote()]) == [1, 1]
        with pytest.raises(TypeError):
            one.options(num_returns=True)


@pytest.mark.not_inline("there are no other processes")
class TestMaxCalls:
    def test_the_process_ends_after_so_many_calls(self):
        twice = pid.options(max_calls=2)
        pids = [ray.get(twice.remote(), timeout=30) for _ in range(6)]
        assert all(pids.count(each) <= 2 for each in pids) and len(set(pids)) >= 3

    def test_many_at_once_are_all_done_and_none_costs_a_retry(self):
        once = pid.options(max_calls=1, max_retries=0)
        pids = ray.get([once.remote() for _ in range(12)], timeout=60)
        assert len(set(pids)) == 12

    def test_what_it_has_submitted_is_finished_first(self):
        @ray.remote(max_calls=1)
        def submit():
            return [one.remote(), ray.put("kept")], os.getpid()

        (child, kept), worker = ray.get(submit.remote(), timeout=30)
        assert ray.get([child, kept], timeout=30) == [1, "kept"]
        until(lambda: not os.path.exists(f"/proc/{worker}"))


class TestNames:
    def test_a_task_goes_by_its_name(self):
        @ray.remote
        def names():
            context = ray.get_runtime_context()
            return context.get_task_name(), context.get_task_function_name()

        plain, function = ray.get(names.remote())
        assert plain == function and plain.endswith("names")
        assert ray.get(names.options(name="shown").remote()) == ("shown", function)
        assert ray.get(names.remote())[0] == plain

    @pytest.mark.not_inline("there are no other processes")
    def test_the_process_shows_what_it_runs(self, tmp_path):
        @ray.remote
        def long_running():
            (tmp_path / "pid").write_text(str(os.getpid()))
            while not (tmp_path / "go").exists():
                time.sleep(0.01)

        ref = long_running.options(name="a-name").remote()
        # Its name is there before what is written to it.
        worker = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        until(lambda: title_of(worker) == "orchestrator::a-name")
        (tmp_path / "go").touch()
        ray.get(ref, timeout=20)
        until(lambda: title_of(worker) in ("orchestrator::IDLE", ""))


def title_of(process):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").decode()
    except OSError:
        return ""


class TestResources:
    def test_a_task_knows_what_it_holds(self):
        @ray.remote
        def holds():
            return ray.get_runtime_context().get_assigned_resources()

        assert ray.get(holds.remote()) == {"CPU": 1.0}
        assert ray.get(holds.options(num_cpus=2).remote()) == {"CPU": 2.0}
        assert ray.get(holds.options(num_cpus=0).remote()) == {}
        assert ray.get(holds.remote()) == {"CPU": 1.0}

    @pytest.mark.not_inline("the program's own threads are left alone")
    def test_library_threads_follow_num_cpus(self):
        @ray.remote
        def threads():
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
            return blas_threads(), {os.environ.get(name) for name in names}

        if "OMP_NUM_THREADS" in os.environ:
            pytest.skip("the environment of this run says how many threads there are")
        before = dict(os.environ)
        if blas_threads() is None:
            pytest.skip("numpy was built without OpenBLAS")
        assert ray.get(threads.remote()) == (1, {"1"})
        assert ray.get(threads.options(num_cpus=2).remote()) == (2, {"2"})
        assert ray.get(threads.options(num_cpus=0.5).remote()) == (1, {"1"})
        assert dict(os.environ) == before

    @pytest.mark.not_inline("the program's own threads are left alone")
    def test_what_the_runtime_environment_says_counts_more(self):
        @ray.remote(num_cpus=2, runtime_env={"env_vars": {"OMP_NUM_THREADS": "3"}})
        def threads():
            return os.environ["OMP_NUM_THREADS"]

        assert ray.get(threads.remote(), timeout=60) == "3"

    @pytest.mark.not_inline("the program's own threads are left alone")
    def test_an_actor_s_too(self):
        if "OMP_NUM_THREADS" in os.environ:
            pytest.skip("the environment of this run says how many threads there are")

        @ray.remote(num_cpus=2)
        class Pair:
            def threads(self):
                return os.environ["OMP_NUM_THREADS"], ray.get_runtime_context().get_assigned_resources()

        assert ray.get(Pair.remote().threads.remote(), timeout=30) == ("2", {"CPU": 2.0})


def blas_threads():
    """The threads that the BLAS of numpy uses here; None if it is another one than OpenBLAS."""
    import ctypes

    import numpy  # noqa: F401

    with open("/proc/self/maps") as file:
        paths = {"/" + line.rstrip().partition("/")[2] for line in file if "openblas" in line}
    for path in paths:
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_"):
            if hasattr(library, name):
                return getattr(library, name)()
    return None


@pytest.mark.not_inline("code on the caller's own stack knows no time limit")
class TestTimeLimits:
    def test_a_function_written_in_c_goes_by_its_own_name(self):
        with pytest.raises(TaskTimeoutError, match=r"^sleep ran longer"):
            ray.get(ray.remote(timeout_s=0.2)(time.sleep).remote(60))

    def test_a_task_that_takes_too_long_is_interrupted(self):
        @ray.remote(timeout_s=1)
        def sleep(seconds):
            time.sleep(seconds)
            return seconds

        with pytest.raises(TaskTimeoutError, match=r"sleep ran longer than timeout_s=1") as caught:
            ray.get(sleep.remote(1000), timeout=30)
        assert isinstance(caught.value, TimeoutError)
        assert ray.get(sleep.remote(0), timeout=30) == 0

    def test_one_that_is_deaf_is_ended_and_the_error_says_where_it_was(self):
        @ray.remote(timeout_s=0.1)
        def deaf():
            while True:
                try:
                    time.sleep(1000)
                except KeyboardInterrupt:
                    pass

        with pytest.raises(TaskTimeoutError, match=r"ignored the interrupt(.|\n)*in deaf"):
            ray.get(deaf.remote(), timeout=30)

    def test_a_generator_too_after_what_it_has_yielded(self):
        @ray.remote(timeout_s=1)
        def items():
            yield 1
            time.sleep(1000)

        first, second = items.remote()
        assert ray.get(first) == 1
        with pytest.raises(TaskTimeoutError):
            ray.get(second)

    @pytest.mark.parametrize("deaf", [False, True])
    def test_it_can_be_tried_again(self, tmp_path, deaf):
        @ray.remote(timeout_s=1, max_retries=2, retry_exceptions=[TimeoutError])
        def second_time_faster():
            if attempts_in(tmp_path) == 0:
                if deaf:
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
                time.sleep(1000)
            return "done"

        assert ray.get(second_time_faster.remote(), timeout=30) == "done"


class TestRetries:
    @pytest.mark.not_inline("ends processes")
    def test_exceptions_and_deaths_share_one_budget(self, tmp_path):
        @ray.remote(max_retries=2, retry_exceptions=True)
        def fails():
            if attempts_in(tmp_path) % 2:
                os._exit(1)
            raise ValueError("again")

        with pytest.raises(ValueError, match="again"):
            ray.get(fails.remote(), timeout=30)
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.not_inline("ends processes")
    @pytest.mark.parametrize("max_retries", [0, 2])
    def test_a_death_names_its_cause_and_the_retries_used(self, max_retries):
        @ray.remote
        def die():
            os.kill(os.getpid(), 11)

        text = rf"die died: pid \d+: killed by SIGSEGV.*used: {max_retries} of {max_retries}(.|\n)*in die"
        with pytest.raises(WorkerCrashedError, match=text):
            ray.get(die.options(max_retries=max_retries).remote(), timeout=30)

    @pytest.mark.not_inline("ends processes")
    def test_without_end(self, tmp_path):
        @ray.remote(max_retries=-1)
        def tenth():
            if attempts_in(tmp_path) < 9:
                os._exit(1)
            return "done"

        assert ray.get(tenth.remote(), timeout=60) == "done"

    def test_other_exceptions_are_not_retried(self, tmp_path):
        @ray.remote(retry_exceptions=[ConnectionError])
        def fails():
            attempts_in(tmp_path)
            raise ValueError

        with pytest.raises(ValueError):
            ray.get(fails.remote(), timeout=30)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.not_inline("ends processes")
    def test_the_default_comes_from_the_environment(self, tmp_path, monkeypatch):
        @ray.remote
        def die():
            attempts_in(tmp_path)
            os._exit(1)

        monkeypatch.setenv("RAY_TASK_MAX_RETRIES", "1")
        with pytest.raises(WorkerCrashedError, match="used: 1 of 1"):
            ray.get(die.remote(), timeout=30)
        monkeypatch.setenv("ORCHESTRATOR_TASK_MAX_RETRIES", "some")
        with pytest.raises(ValueError, match=r"ORCHESTRATOR_TASK_MAX_RETRIES.*some"):
            one.options(name="other").remote()

    def test_with_a_pause_before_each(self, tmp_path):
        policy = ray.RetryPolicy(delay_s=0.2, factor=2, jitter=0)

        @ray.remote(retry_exceptions=True, retry_policy=policy)
        def third_time_lucky():
            if attempts_in(tmp_path) < 2:
                raise ConnectionError
            return time.monotonic()

        started = time.monotonic()
        assert ray.get(third_time_lucky.remote(), timeout=30) - started >= 0.6

    @pytest.mark.not_inline("ends processes")
    def test_a_pause_after_a_death_can_be_cancelled(self, tmp_path):
        @ray.remote(retry_policy=ray.RetryPolicy(delay_s=1000))
        def die():
            attempts_in(tmp_path)
            os._exit(1)

        ref = die.remote()
        until(lambda: "attempt number 2" in waits_for(ref))
        ray.cancel(ref)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=20)


def waits_for(ref):
    """What a look at a reference says about its state."""
    try:
        ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError as error:
        return str(error)
    return ""


def define_in_a_loop(times):
    for i in range(times):

        @ray.remote
        def in_a_loop(i=i):
            return i

        ref = in_a_loop.remote()
    return ref


class TestFunctions:
    def test_functions_of_all_kinds(self):
        async def coroutine(x):
            return x + 2

        assert ray.get([ray.remote(cached).remote(1), ray.remote(coroutine).remote(1)], timeout=20) == [2, 3]
        for wrong in (functools.partial(one, 1), object(), 17):
            with pytest.raises(TypeError, match=r"function or a class|use @remote"):
                ray.remote(wrong)

    def test_what_a_function_captures_is_taken_at_the_first_call(self):
        factor = 2

        @ray.remote
        def times(x):
            return x * factor

        assert ray.get(times.remote(5)) == 10
        factor = 3
        assert ray.get(times.remote(5)) == 10

    def test_a_function_defined_in_a_loop_is_warned_about(self):
        with pytest.warns(UserWarning, match="exported 101 times"):
            ref = define_in_a_loop(101)
        assert ray.get(ref) == 100

    def test_a_function_that_carries_much_is_warned_about(self):
        table = bytes(11 << 20)

        @ray.remote
        def carry():
            return len(table)

        with pytest.warns(UserWarning, match="11 MiB pickled"):
            ref = carry.remote()
        assert ray.get(ref) == 11 << 20
