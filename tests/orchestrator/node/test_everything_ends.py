"""Whoever is killed, nothing is left: no process, no file."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PATIENCE_S, Driver, wait_end


class Victim:
    """A driver in a process of its own."""

    def __init__(self, started_from: str = "main") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.orchestrator.node.victim_driver", started_from],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self.hear()
        self.node_pid: int = said["node"]
        self.session_dir = Path(said["session_dir"])
        self.pidfds = [os.pidfd_open(pid) for pid in said["pids"]]

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, question: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.hear()

    def wait_end_of_all(self) -> None:
        """Wait until every process of the session has ended."""
        deadline_s = time.monotonic() + PATIENCE_S
        for pidfd in self.pidfds:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(max(deadline_s - time.monotonic(), 0) * 1000), "a process is left"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for pidfd in self.pidfds:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)


@pytest.fixture
def victim(no_leaks: None, runtime_root: Path) -> Iterator[Callable[..., Victim]]:
    """Start drivers that are going to be killed."""
    victims: list[Victim] = []

    def make(*args: str) -> Victim:
        victims.append(Victim(*args))
        return victims[-1]

    yield make
    for one in victims:
        one.close()
    assert processes_of(runtime_root.parent) == []


@pytest.mark.parametrize("started_from", ["main", "thread"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver(
    victim: Callable[..., Victim], runtime_root: Path, started_from: str, number: int
) -> None:
    it = victim(started_from)
    assert it.ask("is it alive") is True
    it.process.send_signal(number)
    it.wait_end_of_all()
    assert not it.session_dir.exists() and not runtime_root.exists()


def test_a_killed_node(victim: Callable[..., Victim], runtime_root: Path) -> None:
    it = victim()
    os.kill(it.node_pid, signal.SIGKILL)
    wait_end(os.dup(it.pidfds[0]))
    assert (
        it.ask("is it alive") is False
    )  # the driver's runtime asks all the time; whoever asks also cleans up
    it.wait_end_of_all()
    assert it.ask("stop") == "stopped"
    assert not runtime_root.exists()


def test_a_node_that_is_asked_to_end(victim: Callable[..., Victim], runtime_root: Path) -> None:
    it = victim()
    os.kill(it.node_pid, signal.SIGTERM)
    it.wait_end_of_all()
    assert not runtime_root.exists()
    assert it.ask("is it alive") is False


@pytest.mark.stress
def test_drivers_that_are_killed_at_any_moment(runtime_root: Path, no_leaks: None) -> None:
    rng = random.Random(7)
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.orchestrator.node.victim_driver", "main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.05, 0.6))
        process.kill()
        process.communicate()
        deadline_s = time.monotonic() + PATIENCE_S
        while left := processes_of(runtime_root.parent):
            assert time.monotonic() < deadline_s, f"left: {left}"
            try:
                wait_end(os.pidfd_open(left[0]))
            except ProcessLookupError:
                pass
    # A driver that is killed between making its directory and starting its node leaves an empty one, which
    # the next session sweeps.
    assert all(list(path.rglob("*.log")) == [] for path in runtime_root.glob("*"))


def processes_of(runtime_dir: Path) -> list[int]:
    """Return every process, of whatever parent, that was started with this runtime directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"XDG_RUNTIME_DIR={runtime_dir}\0" in (entry / "environ").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_many_sessions_at_once(start: Callable[..., Driver]) -> None:
    drivers = [start() for _ in range(8)]
    for driver in drivers:
        assert driver.lease()
