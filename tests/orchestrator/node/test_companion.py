"""Processes that a supervisor keeps alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.node.companion import LIVED_S, PAUSE_S, Companion
from orchestrator.node.system import open_pidfd
from tests.orchestrator.node.conftest import is_zombie, wait_end
from tests.waiting import until

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(1000)"]


@pytest.fixture
def companion(no_leaks: None, tmp_path: Path) -> Iterator[Companion]:
    made = Companion("sleeper", SLEEP, str(tmp_path / "sleeper.log"))
    made.start(0.0)
    yield made
    made.stop(5.0)


def die(companion: Companion, now_s: float) -> str:
    os.kill(companion.pid, signal.SIGKILL)
    return until(lambda: companion.tick(now_s))


def test_one_that_dies_is_started_again_after_a_pause(companion: Companion) -> None:
    first = companion.pid
    assert companion.tick(0.0) == ""
    assert "sleeper ended with code -9" in die(companion, 1.0)
    assert companion.pid == 0 and companion.tick(1.0) == ""
    assert "started again" in companion.tick(1.0 + PAUSE_S[0])
    assert companion.pid not in (0, first) and companion.restarts_count == 1


def test_the_pause_grows_while_it_does_not_live_long(companion: Companion) -> None:
    now_s, pauses = 1.0, []
    for _ in range(4):
        die(companion, now_s)
        assert companion.due_s is not None
        pauses.append(round(companion.due_s - now_s, 6))
        now_s = companion.due_s
        companion.tick(now_s)
    assert pauses == [PAUSE_S[0] * 2**i for i in range(4)]
    die(companion, now_s + LIVED_S)
    assert companion.due_s == now_s + LIVED_S + PAUSE_S[0]


def test_what_it_prints_is_in_its_log(companion: Companion, tmp_path: Path) -> None:
    until(lambda: (tmp_path / "sleeper.log").read_text() == "here\n")


def test_one_that_does_not_want_to_end_is_ended(no_leaks: None, tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True); time.sleep(1000)"
    )
    stubborn = Companion("stubborn", [sys.executable, "-c", program], str(tmp_path / "log"))
    stubborn.start(0.0)
    pid = stubborn.pid
    until(lambda: (tmp_path / "log").read_text())
    stubborn.stop(0.05)
    assert is_zombie(pid) and stubborn.pid == 0
    stubborn.stop(0.05)


def test_a_command_that_is_not_there_is_tried_again(no_leaks: None, tmp_path: Path) -> None:
    nothing = Companion("nothing", [str(tmp_path / "nothing")], str(tmp_path / "log"))
    nothing.start(0.0)
    assert "nothing ended with code 1" in until(lambda: nothing.tick(0.0))
    assert "No such file" in (tmp_path / "log").read_text()
    nothing.stop(0.0)


def test_it_dies_with_its_supervisor_however_that_ends(no_leaks: None, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from orchestrator.node.companion import Companion\n"
        f"companion = Companion('c', {SLEEP!r}, {str(tmp_path / 'log')!r})\n"
        "companion.start(0.0)\n"
        "print(companion.pid, flush=True); time.sleep(1000)\n"
    )
    path = os.pathsep.join(path for path in sys.path if path)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text())
    pidfd = open_pidfd(pid)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    wait_end(pidfd)
