"""A driver's side of a node, without the runtime."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import plasma
from orchestrator.node import system
from orchestrator.node.launch import NodeProcess, start_node
from orchestrator.node.session_dir import new_session_path

HERE = Path(__file__).parent
CONTROL, WORK = 0, 1
#: The longest anything here may take before the test gives up.
PATIENCE_S = 30.0

Message = dict[str, Any]


class Driver:
    """A store, a node, and what the node has said."""

    def __init__(self, cpus: float = 2.0, entry: str = "stub_worker:run", **resources: float) -> None:
        self.store = plasma.Store.create(32 << 20)
        self.endpoint = self.store.endpoint
        self.session_dir = new_session_path()
        self.heard: list[Message] = []
        info = {
            "driver_address": self.store.address,
            "driver_sys_path": [str(HERE), *sys.path],
            "worker_entry": entry,
            "session": "test",
            "num_cpus": cpus,
        }
        self.node: NodeProcess = start_node(
            self.store, resources={"CPU": cpus, **resources}, session_dir=self.session_dir, info=info
        )
        self.node.wait_hello(PATIENCE_S)

    def tell_node(self, **message: Any) -> None:
        """Send a control message; `class_` stands for the field `class`."""
        message = {name.rstrip("_"): value for name, value in message.items()}
        self.send_raw(json.dumps(message).encode())

    def send_raw(self, payload: bytes) -> None:
        self.endpoint.sender(self.node.address, CONTROL).send(payload)

    def run(self, worker: int, program: str) -> None:
        """Have a worker run a program (see `stub_worker`)."""
        self.endpoint.sender(worker, WORK).send(program.encode())

    def expect(self, op: str, accept: Callable[[Message], bool] = lambda _: True) -> Message:
        """Return the next message of this kind, and keep the others for later."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            for index, message in enumerate(self.heard):
                if message["op"] == op and accept(message):
                    return self.heard.pop(index)
            bell = self.endpoint.bell()
            received = self.endpoint.receive(CONTROL)
            if received is not None:
                self.heard.append(json.loads(received[1]))
            elif not self.endpoint.wait(1 << CONTROL, deadline_s - time.monotonic(), bell):
                raise AssertionError(f"no {op!r} came; heard: {self.heard}")

    def lease(self, want: int = 1, cpus: float = 1.0, class_: str = "f", **resources: float) -> list[Message]:
        """Ask for workers and return the grants."""
        self.tell_node(op="lease", class_=class_, resources={"CPU": cpus, **resources}, want=want)
        return [self.expect("granted", lambda m: m["class"] == class_) for _ in range(want)]

    def ask(self, **message: Any) -> Message:
        """Send a request and return its answer."""
        self.tell_node(**message)
        return self.expect("reply", lambda m: m["req"] == message["req"])

    def processes(self) -> set[int]:
        """Return every process of this session that is alive, by its session id."""
        return {
            pid
            for pid, _, session in system._process_table()
            if session == self.node.pid and not is_zombie(pid)
        }

    def close(self) -> None:
        """End the session and the store. Repeatable."""
        self.node.stop()
        if hasattr(self, "store"):
            self.store.close()
            # Its memory stays mapped as long as anything refers to it.
            del self.store, self.endpoint


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended but has not been reaped, or is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_end(pidfd: int) -> None:
    """Wait until a process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), "the process did not end"
    os.close(pidfd)


@pytest.fixture
def runtime_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sessions of a test live, and must be gone from at its end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "orchestrator"


@pytest.fixture
def start(no_leaks: None, runtime_root: Path) -> Iterator[Callable[..., Driver]]:
    """Start sessions; all are ended with the test, and nothing may be left of them."""
    drivers: list[Driver] = []

    def make(*args: Any, **options: Any) -> Driver:
        drivers.append(Driver(*args, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()
        assert driver.processes() == set()
    assert not runtime_root.exists()
    drivers.clear()


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    """A session on two CPUs."""
    return start()
