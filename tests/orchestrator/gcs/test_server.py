"""A head as a process, nodes over mutual TLS: what is promised survives kills, and strangers are told off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.requests import Done
from tests.orchestrator.gcs.conftest import HeadProcess, RedisServer, TestNode
from tests.waiting import until

StartHead = Callable[..., HeadProcess]
StartNode = Callable[..., TestNode]
ONE_CPU = ResourceSet.from_floats({"CPU": 1})


def claim(node: TestNode, name: str, index: int) -> Any:
    return node.ask(requests.ClaimName(requests.Name("actor", "n", name, f"id-{name}", index)))


def test_nodes_join_see_each_other_and_hear_of_deaths(start_head: StartHead, start_node: StartNode) -> None:
    head = start_head()
    one = start_node(head.join_string, "000000000000000a", is_head=True)
    assert one.event(messages.Registered).node == 1
    two = start_node(head.join_string, "000000000000000b")
    assert two.event(messages.Registered).node == 2
    assert {node.node for node in two.event(messages.View).nodes} == {1, 2}
    assert [node.node_id for node in one.event(messages.View).nodes] == ["000000000000000a"]
    assert [node.node_id for node in one.event(messages.View).nodes] == ["000000000000000b"]
    two.link.report(messages.Heartbeat(ONE_CPU))
    assert one.event(messages.View).nodes[0].available == ONE_CPU
    two.close("it was enough")
    died = one.event(messages.View).nodes[0]
    assert (died.node, died.state, died.cause) == (2, "DEAD", "it left: it was enough")


def test_a_node_that_was_declared_dead_must_leave(start_head: StartHead, start_node: StartNode) -> None:
    head = start_head()
    one = start_node(head.join_string, "000000000000000a", is_head=True)
    two = start_node(head.join_string, "000000000000000b")
    two.event(messages.Registered)
    assert one.ask(requests.DeclareDead(2, "its power is off")) == Done(1)
    assert "its power is off" in two.event(messages.MustLeave).reason
    answer = two.ask(requests.ListNodes())
    assert answer.code == "dead" and "its power is off" in answer.text
    again = start_node(head.join_string, "000000000000000b")
    assert "it was declared dead: its power is off" in again.event(messages.MustLeave).reason


@pytest.fixture(params=["sqlite", "redis"])
def storage(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{folder}/gcs.db"
    server: RedisServer = request.getfixturevalue("redis_server")
    return f"{server.url}?prefix={os.urandom(4).hex()}"


def test_a_head_that_is_killed_comes_back_with_all_that_it_acknowledged(
    storage: str, start_head: StartHead, start_node: StartNode
) -> None:
    head = start_head(storage)
    node = start_node(head.join_string, is_head=True)
    node.event(messages.Registered)
    join_string = head.join_string
    acknowledged: list[str] = []
    for round_number in range(3):
        # Asked for while the head is killed: each is answered all the same, and once.
        names = [f"{round_number}-{number}" for number in range(30)]
        for name in names:
            node.link.submit(
                requests.ClaimName(requests.Name("actor", "n", name, "id", 1)),
                lambda answer, name=name: acknowledged.append(name if answer == Done() else repr(answer)),
            )
        wanted = len(acknowledged) + 3 * round_number
        node.until(lambda wanted=wanted: len(acknowledged) >= wanted)
        head.kill()
        head.start()
        node.until(lambda: len(acknowledged) == 30 * (round_number + 1))  # noqa: B023
        assert node.event(messages.Registered).node == 1
    assert head.join_string == join_string
    found = node.ask(requests.ListNames("actor", "n")).names
    assert sorted(name.name for name in found) == sorted(acknowledged)
    # A node that comes new after all that has the next index.
    other = start_node(head.join_string, "000000000000000b")
    assert other.event(messages.Registered).node == 2


def test_a_node_that_ends_while_the_head_is_away_is_not_waited_for(
    start_head: StartHead, start_node: StartNode, folder: Path
) -> None:
    head = start_head(f"sqlite://{folder}/gcs.db")
    one = start_node(head.join_string, "000000000000000a", is_head=True)
    one.event(messages.Registered)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        services = {"link": f"127.0.0.1:{listener.getsockname()[1]}"}
        two = start_node(head.join_string, "000000000000000b", services=services)
        assert two.event(messages.Registered).node == 2
        head.kill()
        two.close()
    head.start()

    def dead() -> list[messages.NodeView]:
        return [view for view in one.ask(requests.ListNodes(dead_too=True)).nodes if view.state == "DEAD"]

    (found,) = until(dead)
    assert found.node == 2 and "nobody listens there any more (the head was restarted" in found.cause


def test_the_story_of_a_group_over_two_nodes(start_head: StartHead, start_node: StartNode) -> None:
    head = start_head()
    nodes = []
    for number in (1, 2):  # one after the other, so that they are numbered in this order
        nodes.append(start_node(head.join_string, f"{number:016x}", is_head=number == 1))
        nodes[-1].event(messages.Registered)
    spec = requests.GroupSpec("g", "mine", "n", "STRICT_SPREAD", (ONE_CPU, ONE_CPU))
    assert nodes[0].ask(requests.CreateGroup(spec)) == Done()
    asked = [node.event(messages.PrepareBundles) for node in nodes]
    assert sorted(bundle.bundle for one in asked for bundle in one.bundles) == [0, 1]
    for node in nodes:
        assert node.ask(requests.BundlesPrepared("g", 1)) == Done()
    assert nodes[0].event(messages.GroupChanged).state == "CREATED"
    assert nodes[1].event(messages.CommitBundles).group == "g"
    taken = nodes[1].ask(requests.CreateGroup(spec._replace(group="h")))
    assert taken.code == "taken"
    (described,) = nodes[1].ask(requests.WatchGroup("g")).groups
    assert described.state == "CREATED" and sorted(described.nodes) == [1, 2]
    assert nodes[1].ask(requests.RemoveGroup("g")) == Done(1)
    assert nodes[0].event(messages.ReleaseBundles).attempt == 1
    assert nodes[1].event(messages.GroupChanged).state == "REMOVED"
    assert nodes[1].ask(requests.CreateGroup(spec._replace(group="h"))) == Done()


def test_a_wait_for_the_head_is_explained_and_ends(
    start_head: StartHead, start_node: StartNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.gcs.client.EXPLAIN_AFTER_S", 0.2)
    head = start_head(f"sqlite://{folder}/gcs.db")
    node = start_node(head.join_string, is_head=True)
    node.event(messages.Registered)
    head.kill()
    answers: list[Any] = []
    node.link.submit(requests.ClusterInfo(), answers.append)
    text = node.event(messages.Explain).text
    assert (
        head.join_string.address in text and "waited for the head" in text
    ) or "waiting for the head" in text
    node.until(
        lambda: any("nothing listens" in e.text for e in node.events if isinstance(e, messages.Explain))
    )
    head.start()
    node.until(lambda: answers)
    assert answers[0].nodes_alive == 1


def test_two_heads_on_one_port(start_head: StartHead, folder: Path) -> None:
    head = start_head()
    second = start_head("memory", head.listen)
    port = head.join_string.port
    assert f"port {port} of 127.0.0.1 is taken: another head" in second.said["error"]
    assert second.process.wait(30) == 1


def test_two_heads_on_one_file(start_head: StartHead, folder: Path) -> None:
    start_head(f"sqlite://{folder}/gcs.db")
    second = start_head(f"sqlite://{folder}/gcs.db")
    assert "in use by another head" in second.said["error"]


def test_a_head_ends_cleanly_when_told_to(start_head: StartHead, folder: Path) -> None:
    head = start_head(f"sqlite://{folder}/gcs.db")
    assert head.stop() == 0
    assert not (folder / "gcs.sock").exists()


PARENT = """
import subprocess, sys, os
command = "-m orchestrator.gcs.main --listen 127.0.0.1:0 --storage memory".split()
command += ["--session-dir", sys.argv[1], "--parent", str(os.getpid())]
child = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_head_ends_with_its_parent(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)

    def is_gone() -> bool:
        try:
            return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return True

    until(is_gone)


def test_keys_are_private(start_head: StartHead, folder: Path) -> None:
    start_head(f"sqlite://{folder}/gcs.db")
    for name in ("ca.key", "join.secret", "ca.pem", "gcs.db"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name


def test_a_value_that_is_too_large_is_refused_with_what_to_do(
    start_head: StartHead, start_node: StartNode
) -> None:
    head = start_head()
    node = start_node(head.join_string, is_head=True)
    answer = node.ask(requests.PutValue("n", b"k", bytes(17 << 20)))
    assert answer.code == "too_large" and "object store" in answer.text
    answer = node.ask(requests.PutValue("n", b"k", bytes(40 << 20)))
    assert answer.code == "too_large" and "does not fit into a message" in answer.text
    assert node.ask(requests.PutValue("n", b"k", b"small")) == Done(1)


def test_garbage_on_the_port_is_counted_and_the_head_goes_on(
    start_head: StartHead, start_node: StartNode
) -> None:
    head = start_head()
    where = (head.join_string.host, head.join_string.port)
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(10_000).replace(b"\x16", b"x"),
        b"ORC-JOIN/1\nno TLS at all",
    ):
        with socket.create_connection(where) as sock:
            sock.sendall(data)
            until(lambda sock=sock: not _still_open(sock))
    with socket.create_connection(where):
        pass  # as a port scan does
    with socket.create_connection(where) as sock:
        sock.sendall(b"\x16\x03\x01\xff\xff" + os.urandom(1000))  # looks like TLS, and is none
        until(lambda: not _still_open(sock))
    node = start_node(head.join_string, is_head=True)
    counts = node.ask(requests.ClusterInfo()).counts
    assert counts["garbage"] >= 2 and counts["silent"] >= 1 and counts["join_broken"] >= 1
    assert counts["tls_refused"] >= 1
    assert "which is no TLS: dropped" in head.log() and "port scan" in head.log()


def _still_open(sock: socket.socket) -> bool:
    sock.settimeout(0.1)
    try:
        return bool(sock.recv(4096))
    except TimeoutError:
        return True
    except OSError:
        return False
