"""Semantics that a naive runtime gets wrong: of tasks, references and errors. Each test is one trap."""

from __future__ import annotations

import os

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require
from orchestrator.exceptions import GetTimeoutError
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("session_with_a_gpu")]


@pytest.fixture(scope="module")
def session_with_a_gpu():
    ray.init(num_cpus=2, num_gpus=1, object_store_memory=1 << 30)
    yield
    ray.shutdown()


@ray.remote
def identity(x):
    return x


@ray.remote
def pid():
    return os.getpid()


@ray.remote
def never(path):
    while not path.exists():
        pass


class TestTraps:
    def test_references_are_replaced_at_the_top_by_position_and_by_name_and_nowhere_else(self):
        @ray.remote
        def kinds(*args, **kwargs):
            return [type(value).__name__ for value in (*args, *kwargs.values())]

        ref = ray.put(1)
        assert ray.get(kinds.remote(ref, [ref], key=ref)) == ["int", "list", "int"]
        for box in ([ref], (ref,), {"a": ref}, {ref}):
            inside = ray.get(identity.remote(box))
            inside = list(inside.values()) if isinstance(inside, dict) else list(inside)
            assert inside == [ref]

    def test_get_takes_a_list_and_nothing_like_one(self):
        refs = [identity.remote(i) for i in range(2)]
        for wrong in (tuple(refs), iter(refs), {refs[0]}):
            with pytest.raises(ValueError, match="reference"):
                ray.get(wrong)

    def test_no_time_is_a_look_and_a_negative_one_is_for_ever(self, tmp_path):
        ref = never.remote(tmp_path / "go")
        with pytest.raises(GetTimeoutError):
            ray.get(ref, timeout=0)
        (tmp_path / "go").touch()
        assert ray.get(ref, timeout=-1) is None

    def test_more_that_are_ready_stay_in_the_rest(self):
        refs = [ray.put(i) for i in range(5)]
        ready, rest = ray.wait(list(reversed(refs)), num_returns=2)
        assert (ready, rest) == ([refs[4], refs[3]], [refs[2], refs[1], refs[0]])

    def test_a_wait_takes_each_once_and_never_more_than_there_are(self):
        ref = ray.put(1)
        for wrong in (lambda: ray.wait([ref, ref]), lambda: ray.wait([ref], num_returns=2)):
            with pytest.raises(ValueError):
                wrong()

    def test_gpu_tasks_end_their_process_so_that_the_device_s_memory_is_free(self):
        with_gpu = pid.options(num_gpus=1)
        pids = [ray.get(with_gpu.remote(), timeout=60) for _ in range(3)]
        assert len(set(pids)) == 3
        kept = with_gpu.options(max_calls=0)
        assert len({ray.get(kept.remote(), timeout=60) for _ in range(3)}) == 1

    def test_who_waits_gives_back_its_cpu_and_keeps_its_gpu(self):
        @ray.remote(num_cpus=2, num_gpus=1)
        def parent():
            on_a_cpu = ray.get(identity.remote("all CPUs were its own"))
            on_the_gpu = identity.options(num_cpus=0, num_gpus=1).remote("later")
            return on_a_cpu, ray.wait([on_the_gpu], timeout=0.1)[0], [on_the_gpu]

        on_a_cpu, ready, (on_the_gpu,) = ray.get(parent.remote(), timeout=60)
        assert (on_a_cpu, ready) == ("all CPUs were its own", [])
        assert ray.get(on_the_gpu, timeout=60) == "later"

    def test_a_worker_is_used_again(self):
        assert len({ray.get(pid.remote()) for _ in range(20)}) <= 2

    def test_a_large_argument_is_copied_at_each_call_so_that_later_changes_are_not_seen(self):
        array = np.zeros(1_000_000, dtype=np.uint8)
        first = identity.remote(array)
        array[:] = 1
        second = identity.remote(array)
        assert (ray.get(first).max(), ray.get(second).min()) == (0, 1)

    def test_the_cancellation_of_a_future_is_not_the_task_s(self):
        ref = identity.remote(5)
        ref.future().cancel()
        assert ray.get(ref, timeout=20) == 5

    def test_a_generator_s_error_is_in_its_place_and_then_it_ends(self):
        @ray.remote
        def three_then_fail():
            yield from range(3)
            raise KeyError("fourth")

        refs = list(three_then_fail.remote())
        assert len(refs) == 4 and ray.get(refs[:3]) == [0, 1, 2]
        with pytest.raises(KeyError, match="fourth"):
            ray.get(refs[3])

    def test_memory_is_free_as_soon_as_the_last_reference_goes(self):
        def used():
            return sum(info.size_bytes for info in require().store.list())

        before = used()
        for _ in range(20):  # each a third of the store
            ref = ray.put(np.zeros(300 << 20, dtype=np.uint8))
            del ref
        until(lambda: used() <= before + (1 << 20))
