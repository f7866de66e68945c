"""How sessions begin and end, and what is left of them: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.exceptions import SerializationError, SessionError
from tests.leaks import holdings, leaked_since

pytestmark = pytest.mark.both_modes


@ray.remote
def double(x):
    return 2 * x


@ray.remote
class Echo:
    def say(self, x):
        return x


class TestBeginAndEnd:
    def test_a_session_leaves_nothing(self, session):
        assert ray.is_initialized()
        assert ray.get(double.remote(2)) == 4
        assert ray.get(Echo.remote().say.remote("x")) == "x"

    def test_one_after_the_other(self, mode):
        before = holdings()
        for i in range(3):
            with ray.init(num_cpus=1, mode=mode):
                assert ray.get(double.remote(i)) == 2 * i
            assert not ray.is_initialized()
        assert not leaked_since(before)

    def test_shutdown_twice_is_harmless(self):
        ray.shutdown()
        ray.shutdown()

    def test_the_first_call_starts_a_session(self):
        try:
            assert ray.get(double.remote(1)) == 2
            assert ray.is_initialized()
        finally:
            ray.shutdown()

    def test_from_another_thread(self, mode):
        def program():
            ray.init(num_cpus=1, mode=mode)
            results.append(ray.get(double.remote(4)))

        results = []
        thread = threading.Thread(target=program)
        thread.start()
        thread.join()
        try:
            assert results == [8]
            assert ray.get(double.remote(5), timeout=20) == 10
        finally:
            ray.shutdown()

    def test_many_threads_at_once(self, session):
        def program(i):
            refs = [double.remote(i * 100 + j) for j in range(100)]
            results[i] = ray.get(refs, timeout=60)

        results = {}
        threads = [threading.Thread(target=program, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {i: [2 * (i * 100 + j) for j in range(100)] for i in range(8)}

    def test_signal_handlers_stay_the_users(self, session):
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
        during = [signal.getsignal(number) for number in numbers]
        ray.shutdown()
        assert during == [signal.getsignal(number) for number in numbers]
        assert during[0] is signal.default_int_handler


class TestWhatOutlivesASession:
    def test_old_references_and_handles_say_so(self, mode):
        ray.init(num_cpus=1, mode=mode)
        small, large, pending = ray.put(1), ray.put(np.zeros(100_000)), double.remote(1)
        echo = Echo.remote()
        ray.shutdown()
        for ref in (small, large, pending):
            with pytest.raises(SessionError, match="over"):
                ray.get(ref)
            assert len(ref.hex()) == 32 and repr(ref)
        with pytest.raises(SessionError, match="over"):
            echo.say.remote(1)
        with ray.init(num_cpus=1, mode=mode):
            with pytest.raises(SessionError, match="over"):
                ray.get(small)
            with pytest.raises(SessionError, match="over"):
                ray.get([small])

    def test_nothing_takes_them_and_nothing_is_started_for_them(self):
        ray.init(num_cpus=1)
        small, large, echo = ray.put(1), ray.put(np.zeros(100_000)), Echo.remote()
        ray.shutdown()
        for call in (
            lambda: ray.get([small]),
            lambda: ray.wait([small]),
            lambda: ray.cancel(small),
            lambda: ray.kill(echo),
            lambda: small.future(),
            lambda: echo.say.remote(1),
        ):
            with pytest.raises(SessionError, match="over"):
                call()
            assert not ray.is_initialized()
        with ray.init(num_cpus=1):
            new = double.remote(1)
            for call in (
                lambda: ray.get([new, small]),
                lambda: ray.wait([new, large], num_returns=2),
                lambda: double.remote(small),
                lambda: double.remote(x=large),
                lambda: Echo.remote().say.remote(small),
            ):
                with pytest.raises(SessionError, match="over"):
                    call()
            for call in (lambda: double.remote([large]), lambda: ray.put([echo])):
                with pytest.raises(SerializationError, match="over"):
                    call()
            assert ray.get(new) == 2

    def test_an_array_that_was_got_stays_readable(self, mode):
        ray.init(num_cpus=1, mode=mode)
        array = ray.get(ray.put(np.arange(100_000)))
        ray.shutdown()
        assert array.sum() == sum(range(100_000))

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_is_no_part_of_the_session(self, session):
        ref = ray.put(5)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if not ray.is_initialized():
                    try:
                        ray.get(ref)
                    except SessionError:
                        status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert ray.get(ref) == 5
        assert ray.get(double.remote(3)) == 6


@pytest.fixture
def run(mode):
    def run(program):
        environment = {**os.environ, "ORCHESTRATOR_MODE": mode}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)

    return run


class TestWholePrograms:
    def test_hello_world_prints_exactly_the_users_lines(self, run):
        done = run(
            "import orchestrator as ray\n"
            "@ray.remote\n"
            "def hello(): return 'hello'\n"
            "print(ray.get(hello.remote()))\n"
        )
        assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)

    @pytest.mark.not_inline("there are no other processes")
    def test_what_workers_print_arrives(self, run):
        done = run(
            "import orchestrator as ray, sys\n"
            "@ray.remote\n"
            "def say():\n"
            "    print('out'); print('err', file=sys.stderr); print('{\"json\": 1}')\n"
            "ray.get(say.remote())\n"
        )
        out = done.stdout.splitlines()
        assert any(line.endswith(") out") and "pid=" in line for line in out)
        assert '{"json": 1}' in out, "a JSON line stays one"
        assert done.stderr.splitlines()[0].endswith(") err")

    def test_functions_and_classes_of_the_script(self, run):
        done = run(
            "import orchestrator as ray\n"
            "class Thing:\n"
            "    def __init__(self, n): self.n = n\n"
            "def helper(n): return Thing(n + 1)\n"
            "@ray.remote\n"
            "def f(thing): return helper(thing.n)\n"
            "@ray.remote\n"
            "def fib(n): return n if n < 2 else sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))\n"
            "print(ray.get(f.remote(Thing(1))).n, ray.get(fib.remote(8)))\n"
        )
        assert done.stdout == "2 21\n", done.stderr

    @pytest.mark.not_inline("a task that sleeps for ever does so at its call")
    def test_ending_with_tasks_under_way(self, run):
        done = run(
            "import orchestrator as ray, time\n"
            "@ray.remote\n"
            "def sleep(): time.sleep(1000)\n"
            "refs = [sleep.remote() for _ in range(100)]\n"
            "ray.wait(refs, timeout=0.3)\n"
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)

    def test_an_error_in_the_driver_ends_it_normally(self, run):
        done = run("import orchestrator as ray; ray.init(num_cpus=1); raise SystemExit(5)")
        assert (done.returncode, done.stderr) == (5, "")
