"""`breakpoint()` in tasks and actors."""

# ruff: noqa: T100

from __future__ import annotations

import bdb
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator as ray
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote(max_retries=0)
def total(numbers):
    result = sum(numbers)
    breakpoint()
    return result


@ray.remote
class Model:
    def __init__(self):
        self.weight = 7

    def predict(self):
        breakpoint()
        return self.weight


def waiting_at():
    """Where a task waits to be attached to."""
    directory = Path(ray.init(ignore_reinit_error=True).session_dir)
    return str(until(lambda: list(directory.glob("debug-*")))[0])


def debug(path, commands):
    """What somebody sees who attaches and types these commands."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.util.rpdb", path],
        input=commands,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_task_stops_and_can_be_looked_at():
    ref = total.remote([1, 2, 3])
    shown = debug(waiting_at(), "p result\np numbers\nresult = 10\ncontinue\n")
    assert "-> return result" in shown
    assert "[1, 2, 3]" in shown
    assert ray.get(ref) == 10


def test_a_method_of_an_actor():
    model = Model.remote()
    ref = model.predict.remote()
    assert "7" in debug(waiting_at(), "p self.weight\nself.weight = 8\nc\n")
    assert ray.get(ref) == 8
    again = model.predict.remote()
    debug(waiting_at(), "c\n")
    assert ray.get(again) == 8


@pytest.mark.parametrize("command", ["next", "step", "return"])
def test_a_step_beyond_its_end_lets_it_go_on(command):
    ref = total.remote([1])
    assert "--Return--" in debug(waiting_at(), f"{command}\n{command}\n")
    assert ray.get(ref) == 1


def test_quit_ends_the_task():
    ref = total.remote([1])
    debug(waiting_at(), "quit\n")
    with pytest.raises(bdb.BdbQuit):
        ray.get(ref)


def test_if_nobody_is_attached_any_more_the_task_goes_on():
    ref = total.remote([1, 2])
    debug(waiting_at(), "p result\n")
    assert ray.get(ref) == 3


def test_a_task_that_waits_can_be_cancelled():
    ref = total.remote([1])
    path = waiting_at()
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.util.rpdb", path + "-gone"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "nothing waits at" in done.stderr
