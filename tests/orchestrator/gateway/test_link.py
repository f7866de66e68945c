"""Links between two nodes, over real sockets: broken, refused, resumed."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator.gateway import frames, handshake, link
from orchestrator.gateway.handshake import Greeting
from orchestrator.gateway.link import STRANGERS_MAX, Identity, Links
from orchestrator.gateway.security import tls_context
from orchestrator.node.reactor import Reactor
from orchestrator.rpc.credentials import CLUSTER_NAME, Authority, utc_now

SECRET = b"s" * 32


class Node:
    """A node as far as links are concerned."""

    def __init__(self, reactor: Reactor, index: int, **changes: object) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self.listener.getsockname()[1]
        self.arrived: list[tuple[int, bytes]] = []
        self.complaints: list[str] = []
        self.late_s = 0.0
        identity = Identity("cluster", index, f"first {index}", SECRET)._replace(**changes)
        self.links = Links(
            identity,
            reactor,
            self.listener,
            lambda node, frame: self.arrived.append((node, frame.payload)),
            self.complaints.append,
            lambda: time.monotonic() + self.late_s,
        )

    def knows(self, other: Node) -> None:
        self.links.know(other.links.identity.node, "127.0.0.1", other.port)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def make(reactor: Reactor) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make_node(index: int, **changes: object) -> Node:
        made.append(Node(reactor, index, **changes))
        return made[-1]

    yield make_node
    for node in made:
        node.links.close()


@pytest.fixture
def run(reactor: Reactor) -> Callable[..., None]:
    def run_until(condition: Callable[[], bool], *nodes: Node) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, [node.complaints for node in nodes]
            for node in nodes:
                node.links.flush()
                node.links.tick()
            reactor.run_once(0.01)

    return run_until


def payloads(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def test_frames_arrive_in_order(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    for payload in payloads(1000):
        here.links.send(2, frames.news(payload))
    run(lambda: len(there.arrived) == 1000, here, there)
    assert there.arrived == [(1, payload) for payload in payloads(1000)]
    run(lambda: not here.links.waiting_bytes(2), here, there)


def test_acknowledgements_wait_for_more_to_acknowledge(make, run, monkeypatch):
    monkeypatch.setattr(link, "ACK_DELAY_S", 3600.0)
    here, there = make(1), make(2)
    here.knows(there)
    here.links.send(2, frames.news(b"first"))
    run(lambda: there.arrived, here, there)
    here.links.send(2, frames.news(b"second"))
    run(lambda: len(there.arrived) == 2, here, there)
    assert here.links.waiting_bytes(2) > 0
    there.late_s = 3600.0
    run(lambda: not here.links.waiting_bytes(2), here, there)
    large = bytes(400_000)  # of so much, the other end is to be free soon
    here.links.send(2, frames.news(large))
    run(lambda: not here.links.waiting_bytes(2), here, there)


@pytest.fixture(scope="module")
def tls() -> dict[str, object]:
    """What connections over TLS need."""
    certificate = Authority.create(utc_now()).issue("0123456789abcdef", ["127.0.0.1"], utc_now())
    return {
        "tls_client": tls_context(certificate, server=False),
        "tls_server": tls_context(certificate, server=True),
        "server_name": CLUSTER_NAME,
    }


def test_over_tls_from_small_frames_to_the_largest(make, run, tls):
    one, two = make(1, **tls), make(2, **tls)
    one.knows(two)
    sizes = [0, 1, 16_000, 17_000, 70_000, frames.FRAME_BYTES_MAX - 100, 1] * 4
    sent = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    for count, payload in enumerate(sent[:3], 1):  # one by one, as calls that wait for each other
        one.links.send(2, frames.news(payload))
        run(lambda count=count: len(two.arrived) == count, one, two)
    for payload in sent[3:]:
        one.links.send(2, frames.news(payload))
    run(lambda: len(two.arrived) == len(sent), one, two)
    assert [payload for _, payload in two.arrived] == sent


def test_what_is_sent_says_whether_there_is_a_connection(make, run):
    one, two = make(1), make(2)
    one.knows(two)
    one.links.send(2, frames.news(b"first"))
    assert one.links.flush(), "it is still to be made"
    run(lambda: two.arrived, one, two)
    one.links.send(2, frames.news(b"second"))
    assert not one.links.flush()


def test_both_ways_at_once_and_large(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    there.knows(here)
    large = bytes(900_000)
    for _ in range(40):
        here.links.send(2, frames.news(large))
        there.links.send(1, frames.news(large))
    run(lambda: len(there.arrived) == len(here.arrived) == 40, here, there)
    assert {len(payload) for _, payload in here.arrived + there.arrived} == {900_000}


def test_what_a_broken_connection_lost_is_sent_again(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    sent = 0
    for _ in range(5):
        for payload in payloads(200, sent):
            here.links.send(2, frames.news(payload))
        sent += 200
        some = sent - 150
        run(lambda some=some: len(there.arrived) >= some, here, there)
        for answerer in list(there.links._open.values()):
            answerer.close()
    run(lambda: len(there.arrived) >= sent, here, there)
    assert [payload for _, payload in there.arrived] == payloads(sent)


def test_a_node_that_listens_late(make, run, reactor):
    here = make(1)
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    here.links.know(2, "127.0.0.1", port)
    here.links.send(2, frames.news(b"early"))
    run(lambda: here.links._outgoing[2]._pause_s > 0.1, here)
    there = make(2)
    here.knows(there)
    run(lambda: there.arrived == [(1, b"early")], here, there)


def test_a_dead_node_is_sent_nothing_and_heard_no_more(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    there.knows(here)
    there.links.send(1, frames.news(b"a"))
    run(lambda: bool(here.arrived), here, there)
    here.links.node_died(2)
    here.links.send(2, frames.news(b"b"))
    there.links.send(1, frames.news(b"c"))
    run(lambda: any("was declared dead" in text for text in there.complaints), here, there)
    assert (here.arrived, there.arrived) == ([(2, b"a")], [])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"secret": b"x" * 32}, "does not know the cluster's secret"),
        ({"cluster": "another"}, "of another cluster"),
        ({"node": 7}, "looks for node 2, this is node 7"),
    ],
)
def test_strangers_are_refused_and_both_ends_say_why(make, run, changes, complaint):
    here = make(1)
    there = make(**{"index": 2, **changes}) if "node" not in changes else make(7)
    here.links.know(2, "127.0.0.1", there.port)
    here.links.send(2, frames.news(b"secret"))
    run(lambda: any(complaint in text for text in here.complaints + there.complaints), here, there)
    assert there.arrived == []


def test_a_restarted_node_is_not_the_one_it_was(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    here.links.send(2, frames.news(b"first life"))
    run(lambda: bool(there.arrived), here, there)
    here.links.close()
    again = make(1, incarnation="second")
    again.knows(there)
    again.links.send(2, frames.news(b"second life"))
    run(lambda: any("has been restarted" in text for text in again.complaints), again, there)
    assert there.arrived == [(1, b"first life")]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 8) + b'{"a": 1}',
        handshake.line({"link": 99}),
        Greeting("cluster", 1, 2, "i", "n" * 16)._replace(node=70_000).to_line(),
        b"",
    ],
)
def test_garbage_is_refused_counted_and_survived(make, run, garbage):
    here, there = make(1), make(2)
    with socket.create_connection(("127.0.0.1", there.port)) as scan:
        scan.sendall(garbage)
        if not garbage:
            scan.shutdown(socket.SHUT_WR)
        run(lambda: not there.links._strangers and (not garbage or there.links.refused_count), here, there)
    here.knows(there)
    here.links.send(2, frames.news(b"still there"))
    run(lambda: there.arrived == [(1, b"still there")], here, there)


def test_silent_connections_are_bounded(make, run):
    here, there = make(1), make(2)
    scans = [socket.create_connection(("127.0.0.1", there.port)) for _ in range(STRANGERS_MAX + 10)]
    run(lambda: there.links.refused_count >= 10, there)
    assert len(there.links._strangers) == STRANGERS_MAX
    for scan in scans:
        scan.close()
    run(lambda: not there.links._strangers, there)
    here.knows(there)
    here.links.send(2, frames.news(b"still there"))
    run(lambda: there.arrived == [(1, b"still there")], here, there)


def test_a_member_that_sends_garbage_is_cut_off_and_may_come_again(make, run):
    here, there = make(1), make(2)
    here.knows(there)
    here.links.send(2, frames.news(b"a"))
    run(lambda: bool(there.arrived), here, there)
    here.links._outgoing[2]._wire.send([b"\xff" * 64])
    run(lambda: any("is refused" in text for text in there.complaints), here, there)
    here.links.send(2, frames.news(b"b"))
    run(lambda: there.arrived == [(1, b"a"), (1, b"b")], here, there)
