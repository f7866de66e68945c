"""Tasks whose worker was killed for want of memory: a budget of their own, and an error that says so."""

from __future__ import annotations

import os
import signal

import pytest

import orchestrator as ray
from orchestrator.common import config
from orchestrator.common.retry_policy import RetryPolicy
from orchestrator.core import task_submitter
from orchestrator.core.runtime import require
from orchestrator.exceptions import OutOfMemoryError

pytestmark = pytest.mark.usefixtures("shared_session")


@pytest.fixture(autouse=True)
def every_death_is_for_memory(shared_session, monkeypatch):
    """The node's report says that memory was the reason; here each one is made to."""
    monkeypatch.setattr(task_submitter, "_OOM_PAUSES", RetryPolicy(delay_s=0.01, max_delay_s=0.01))
    tasks = require().tasks
    settle = tasks.on_died
    monkeypatch.setattr(
        tasks,
        "on_died",
        lambda lease, report: settle(lease, {**report, "out_of_memory": True, "reason": "memory ran out"}),
    )


@ray.remote(max_retries=1)
def dies(path, times):
    attempt = len(list(path.iterdir()))
    (path / str(attempt)).touch()
    if attempt < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt


def test_a_task_killed_for_memory_is_tried_again_and_no_retry_is_used(tmp_path):
    assert ray.get(dies.remote(tmp_path, 5), timeout=60) == 5


def test_what_must_not_be_repeated_is_not(tmp_path):
    with pytest.raises(OutOfMemoryError, match="retries used: 0 of 0"):
        ray.get(dies.options(max_retries=0).remote(tmp_path, 1), timeout=60)


def test_a_budget_that_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "OOM_RETRIES", 2)
    with pytest.raises(OutOfMemoryError, match=r"memory ran out; retries used: 2 of 2") as caught:
        ray.get(dies.remote(tmp_path, 100), timeout=60)
    assert isinstance(caught.value, MemoryError)


def test_who_is_ended_again_and_again_is_spoken_of(tmp_path, caplog):
    assert ray.get(dies.remote(tmp_path, 9), timeout=60) == 9
    told = [record.message for record in caplog.records if "for want of memory" in record.message]
    assert [text.split(" times")[0] for text in told] == [
        f"dies was ended for want of memory {count}" for count in (4, 8)
    ]
    assert all("memory ran out" in text for text in told)
