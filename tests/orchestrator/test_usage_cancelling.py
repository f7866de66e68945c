"""Cancelling a task, wherever it is and whoever asks."""

from __future__ import annotations

import time

import pytest

import orchestrator as ray
from orchestrator.exceptions import TaskCancelledError, WorkerCrashedError
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def until_told(path, mark):
    (path / mark).touch()
    while not (path / "go").exists():
        time.sleep(0.005)
    return mark


@ray.remote
def touch(path, *_):
    path.touch()


def assert_cancelled(ref):
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=20)


class TestEachState:
    def test_one_that_waits_for_its_arguments(self, tmp_path):
        argument = until_told.remote(tmp_path, "runs")
        ref = touch.remote(tmp_path / "ran", argument)
        ray.cancel(ref)
        assert_cancelled(ref)
        (tmp_path / "go").touch()
        assert ray.get(argument, timeout=20) == "runs"
        ray.get(touch.remote(tmp_path / "other"), timeout=20)
        assert not (tmp_path / "ran").exists()

    def test_one_that_was_sent_and_has_not_begun(self, tmp_path):
        ray.get([touch.remote(tmp_path / "warm") for _ in range(50)], timeout=20)  # known to be short
        blockers = [until_told.remote(tmp_path, str(i)) for i in range(2)]
        until(lambda: all((tmp_path / str(i)).exists() for i in range(2)))  # no worker is free
        refs = [touch.remote(tmp_path / "ran") for _ in range(20)]
        for ref in refs:
            ray.cancel(ref)
        (tmp_path / "go").touch()
        for ref in refs:
            assert_cancelled(ref)
        ray.get(blockers, timeout=20)
        assert not (tmp_path / "ran").exists()

    def test_one_that_runs_may_clean_up_and_is_told(self, tmp_path):
        @ray.remote
        def cleans_up():
            try:
                (tmp_path / "runs").touch()
                time.sleep(1000)
            except KeyboardInterrupt:
                if ray.get_runtime_context().is_canceled():
                    (tmp_path / "told").touch()
                raise

        ref = cleans_up.remote()
        until((tmp_path / "runs").exists)
        ray.cancel(ref)
        assert_cancelled(ref)
        until((tmp_path / "told").exists)

    def test_by_force_a_running_one_is_killed(self, tmp_path):
        ref = until_told.remote(tmp_path, "runs")
        until((tmp_path / "runs").exists)
        ray.cancel(ref, force=True)
        with pytest.raises(WorkerCrashedError) as caught:
            ray.get(ref, timeout=20)
        assert isinstance(caught.value, TaskCancelledError)

    def test_by_force_one_that_has_not_begun_is_only_cancelled(self, tmp_path):
        blockers = [until_told.remote(tmp_path, str(i)) for i in range(2)]
        until(lambda: all((tmp_path / str(i)).exists() for i in range(2)))  # no worker is free
        ref = touch.remote(tmp_path / "ran")
        ray.cancel(ref, force=True)
        (tmp_path / "go").touch()
        with pytest.raises(TaskCancelledError) as caught:
            ray.get(ref, timeout=20)
        assert not isinstance(caught.value, WorkerCrashedError)
        ray.get(blockers, timeout=20)

    def test_it_is_never_retried(self, tmp_path):
        @ray.remote(retry_exceptions=True, max_retries=5)
        def counted():
            (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
            time.sleep(1000)

        ref = counted.remote()
        until((tmp_path / "0").exists)
        ray.cancel(ref, force=True)
        assert_cancelled(ref)
        ray.get(touch.remote(tmp_path / "done"), timeout=20)
        assert not (tmp_path / "1").exists()

    def test_a_future_that_is_cancelled_leaves_the_task_alone(self, tmp_path):
        ref = until_told.remote(tmp_path, "runs")
        ref.future().cancel()
        (tmp_path / "go").touch()
        assert ray.get(ref, timeout=20) == "runs"


class TestFamilies:
    def test_children_that_wait_for_arguments_are_cancelled_too(self, tmp_path):
        never = until_told.remote(tmp_path, "never")

        @ray.remote(num_cpus=0)
        def parent(box):
            child = touch.remote(tmp_path / "child-ran", box[0])
            (tmp_path / "submitted").touch()
            ray.get(child)

        ref = parent.remote([never])
        until((tmp_path / "submitted").exists)
        ray.cancel(ref)
        assert_cancelled(ref)
        (tmp_path / "go").touch()
        ray.get(never, timeout=20)
        ray.get(touch.remote(tmp_path / "later"), timeout=20)
        assert not (tmp_path / "child-ran").exists()

    def test_without_recursion_children_go_on(self, tmp_path):
        @ray.remote
        def parent():
            (tmp_path / "child-of").write_text("")
            child = until_told.remote(tmp_path, "child")
            ray.get(child)

        ref = parent.remote()
        until((tmp_path / "child").exists)
        ray.cancel(ref, recursive=False)
        assert_cancelled(ref)
        (tmp_path / "go").touch()
        ray.get(touch.remote(tmp_path / "later"), timeout=20)

    def test_another_process_may_cancel_by_reference(self, tmp_path):
        @ray.remote(num_cpus=0)
        def cancel(box):
            ray.cancel(box[0])

        ref = until_told.remote(tmp_path, "runs")
        until((tmp_path / "runs").exists)
        ray.get(cancel.remote([ref]), timeout=20)
        assert_cancelled(ref)

    def test_whoever_waits_for_a_cancelled_one_is_cancelled(self, tmp_path):
        ref = until_told.remote(tmp_path, "runs")
        dependent = touch.remote(tmp_path / "ran", touch.remote(tmp_path / "before", ref))
        ray.cancel(ref)
        assert_cancelled(dependent)
        assert not (tmp_path / "ran").exists()
