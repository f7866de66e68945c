"""Environments on their way between nodes, without the nodes: who is asked, and what if he dies."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.environments import resolved as environments
from orchestrator.environments.packages import copy_directory
from orchestrator.node import environments_abroad
from orchestrator.node.environments_abroad import EnvironmentsAbroad
from tests.waiting import until


class Net:
    """Nodes that speak directly; `step` delivers one message."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: dict[int, FakeNode] = {}
        self.messages: deque[tuple[int, int, dict[str, Any]]] = deque()
        self.posted: deque[Callable[[], None]] = deque()

    def step(self) -> bool:
        if self.posted:
            self.posted.popleft()()
            return True
        if not self.messages:
            return False
        source, target, message = self.messages.popleft()
        if target in self.nodes and source in self.nodes:
            assert self.nodes[target].environments.on_news(source, message)
        return True

    def run(self, done: Callable[[], Any]) -> None:
        def is_done() -> Any:
            while self.step():
                pass
            return done()

        until(is_done)

    def kill(self, index: int) -> None:
        self.nodes.pop(index).environments.close()
        for node in self.nodes.values():
            node.peers.discard(index)
            node.environments.node_died(index)


class FakeNode:
    """Member, daemon and link to the head in one."""

    def __init__(self, net: Net, index: int) -> None:
        self.here, self._net = index, net
        self.head = self
        self.session_dir = str(net.root / str(index))
        os.makedirs(environments.directory_of(self.session_dir))
        self.peers = set(net.nodes)
        for node in net.nodes.values():
            node.peers.add(index)
        net.nodes[index] = self
        self.environments = EnvironmentsAbroad(self, self)  # type: ignore[arg-type]
        self.outcomes: list[str] = []

    def tell(self, target: int, message: dict[str, Any]) -> None:
        self._net.messages.append((self.here, target, message))

    def post(self, function: Callable[[], None]) -> None:
        self._net.posted.append(function)

    def fetch(self, env: str, *heard: int) -> None:
        for node in heard:
            self.environments.heard(env, node)
        self.environments.fetch(env, self.outcomes.append)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    monkeypatch.setattr(environments_abroad, "PIECE_BYTES", 1000)
    made = Net(tmp_path)
    for index in (1, 2, 3):
        FakeNode(made, index)
    yield made
    for node in made.nodes.values():
        node.environments.close()


def describe(node: FakeNode, project: Path) -> str:
    root = environments.directory_of(node.session_dir)
    resolved = {"working_dir": copy_directory(str(project), root, [])}
    environments.publish_as("abc", resolved, node.session_dir)
    return "abc"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file").write_bytes(os.urandom(20_000))
    return tmp_path / "project"


def content(node: FakeNode) -> bytes:
    return Path(environments.load("abc", node.session_dir)["working_dir"], "file").read_bytes()


def test_it_comes_from_whoever_has_asked(net: Net, project: Path) -> None:
    one, _, three = net.nodes.values()
    env = describe(three, project)
    one.fetch(env, 3)
    net.run(lambda: one.outcomes)
    assert one.outcomes == [""] and content(one) == (project / "file").read_bytes()
    assert sorted(os.listdir(environments.directory_of(one.session_dir))) == sorted(
        os.listdir(environments.directory_of(three.session_dir))
    )
    one.fetch(env)
    assert one.outcomes == ["", ""], "it is here"


def test_who_does_not_have_it_is_passed_over(net: Net, project: Path) -> None:
    one, two, three = net.nodes.values()
    env = describe(three, project)
    one.fetch(env, 2)
    net.run(lambda: one.outcomes)
    assert one.outcomes == [""]
    two.fetch("nobodys")
    net.run(lambda: two.outcomes)
    assert "no node has it (node 1: it is not described there" in two.outcomes[0]
    assert "node 3: it is not described there" in two.outcomes[0]


@pytest.mark.parametrize("steps", range(0, 50, 7))
def test_whoever_dies_meanwhile_is_replaced(net: Net, project: Path, steps: int) -> None:
    one, two, three = net.nodes.values()
    env = describe(three, project)
    describe(two, project)
    one.fetch(env, 3)
    for _ in range(steps):
        net.step()
    net.kill(3)
    net.run(lambda: one.outcomes)
    assert one.outcomes == [""] and content(one) == (project / "file").read_bytes()
    left = os.listdir(environments.directory_of(one.session_dir))
    assert not [name for name in left if name.startswith(("arriving", "copying"))]


def test_many_wait_for_their_turn(net: Net, project: Path) -> None:
    one, _, three = net.nodes.values()
    describe(three, project)
    resolved = environments.load("abc", three.session_dir)
    for number in range(10):
        environments.publish_as(f"env{number}", resolved, three.session_dir)
        one.fetch(f"env{number}", 3)
    net.run(lambda: len(one.outcomes) == 10)
    assert one.outcomes == [""] * 10


def test_what_makes_no_sense_is_refused(net: Net) -> None:
    one, _, three = net.nodes.values()
    environments.publish_as("bad", {"working_dir": "/etc"}, three.session_dir)
    one.fetch("bad", 3)
    net.run(lambda: one.outcomes)
    assert "names that are none" in one.outcomes[0]
    three.environments.on_news(1, {"op": "piece_wanted", "env": "bad", "name": "../x", "offset": 0})
    answer = net.messages.pop()[2]
    assert "it does not have '../x'" in answer["error"] and answer["data"] == ""
