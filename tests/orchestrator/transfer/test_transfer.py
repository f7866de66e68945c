"""Objects from store to store, over real sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest

from orchestrator.common.priority import Priority
from orchestrator.transfer import sockets
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import Cause, Lost, Pulled
from orchestrator.transfer.objects_client import Peer
from orchestrator.transfer.security import Security
from orchestrator.transfer.transfer import ObjectTransfer
from orchestrator.transfer.wire import Request
from plasma.store import Store
from tests.orchestrator.transfer.certificates import make_identity
from tests.orchestrator.transfer.conftest import IN_THE_CLEAR, MakeNode
from tests.waiting import until

X, Y = b"X" * 16, b"Y" * 16
pytestmark = pytest.mark.usefixtures("no_leaks")

IDENTITY = make_identity()
WAYS = {
    "direct in the clear": (IN_THE_CLEAR, True),
    "chunks in the clear": (IN_THE_CLEAR, False),
    "direct, trusted network": (Security(IDENTITY, trusted=True), True),
    "chunks, trusted network": (Security(IDENTITY, trusted=True), False),
    "chunks, TLS": (Security(IDENTITY), False),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_object_comes_as_it_is(way: str, make_node: MakeNode, data: bytes) -> None:
    security, direct = WAYS[way]
    here, there = make_node(security), make_node(security, direct=direct)
    there.put(X, data)
    here.pull(X, there)
    assert here.next_event() == Pulled(X)
    assert here.read(X) == data
    fetcher = here.transfer._fetcher
    assert (fetcher.bytes_direct, fetcher.bytes_in_chunks) == ((len(data), 0) if direct else (0, len(data)))


def test_to_another_machine_it_is_sent_from_the_file(
    make_node: MakeNode, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "is_local", lambda sock: False)
    sent: list[int] = []
    send_from_file = sockets.send_from_file

    def note(sock: socket.socket, file: int, offset: int, size_bytes: int) -> None:
        sent.append(size_bytes)
        send_from_file(sock, file, offset, size_bytes)

    monkeypatch.setattr(sockets, "send_from_file", note)
    here, middle, there = make_node(), make_node(), make_node()
    there.put(X, data)
    middle.pull(X, there, size=len(data))
    here.pull(X, middle, size=len(data))
    assert here.next_event() == Pulled(X)
    assert here.read(X) == data
    assert sum(sent) == 2 * len(data)


@pytest.mark.parametrize("direct", [True, False])
def test_objects_of_all_sizes_come(direct: bool, make_node: MakeNode) -> None:
    here, there = make_node(), make_node(direct=direct)
    objects = {bytes([n]) * 16: bytes([n]) * (7**n) for n in range(1, 9)}
    for object_id, content in objects.items():
        there.put(object_id, content)
        here.pull(object_id, there, size=len(content) if content[0] % 2 else None)
    got = {here.next_event().object_id for _ in objects}
    assert got == set(objects)
    assert all(here.read(object_id) == content for object_id, content in objects.items())


def test_a_connection_is_used_again(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(), make_node()
    for number in range(5):
        there.put(bytes([number]) * 16, data)
        here.pull(bytes([number]) * 16, there)
        assert here.next_event() == Pulled(bytes([number]) * 16)
    assert there.transfer._data_server is not None
    assert len(there.transfer._data_server._connections) == 1


def test_what_nobody_has_is_lost_for_a_reason(make_node: MakeNode) -> None:
    here, there = make_node(), make_node()
    for size in (None, 100):
        here.pull(X, there, size=size)
        lost = here.next_event()
        assert isinstance(lost, Lost) and lost.cause is Cause.NO_SOURCE
        assert "node 2: " in lost.why


def test_the_second_source_serves_when_the_first_has_it_not(make_node: MakeNode, data: bytes) -> None:
    here, empty, there = make_node(), make_node(), make_node()
    there.put(X, data)
    here.pull(X, empty, there, size=len(data))
    assert here.next_event() == Pulled(X)
    assert here.read(X) == data


def test_a_node_that_is_only_receiving_passes_on_what_it_has(make_node: MakeNode, data: bytes) -> None:
    here, middle, there = make_node(), make_node(), make_node()
    there.put(X, data)
    middle.pull(X, there, size=len(data))
    here.pull(X, middle, there, size=len(data))
    assert here.next_event() == Pulled(X) and middle.next_event() == Pulled(X)
    assert here.read(X) == data


def test_a_node_that_has_not_begun_to_receive_lets_others_wait(make_node: MakeNode, data: bytes) -> None:
    here, middle, there = make_node(), make_node(), make_node()
    there.put(X, data)
    middle.pull(X, NodeAddress(9, "127.0.0.1", 1))  # of whom it can't even learn the size
    here.pull(X, middle, size=len(data))
    until(lambda: here.transfer._attempts)
    middle.pull(X, there, size=len(data))
    assert here.next_event() == Pulled(X) and middle.next_event() == Pulled(X)
    assert here.read(X) == data
    assert there.transfer.counters.sends == 1


def test_what_was_on_its_way_for_less_than_a_moment_is_found(make_node: MakeNode, data: bytes) -> None:
    node = make_node()
    library = node.transfer._library
    node.transfer._landings.expect(X)
    asked: list[bytes] = []
    found = library.store.find

    def find(object_id: bytes) -> Any:
        asked.append(object_id)
        if len(asked) == 1:  # it is sealed after this look, and was never seen as a landing
            node.put(X, data)
            node.transfer._landings.expect_no_more(X)
            return None
        return found(object_id)

    library.store.find = find  # type: ignore[method-assign]
    outgoing = library.open(X)
    assert outgoing is not None and outgoing.size_bytes == len(data)
    outgoing.release()


def test_nothing_is_pulled_twice(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(), make_node()
    there.put(X, data)
    for _ in range(10):
        here.pull(X, there, priority=Priority.PREFETCH)
    assert here.next_event() == Pulled(X)
    assert there.transfer.counters.sends == 1
    here.pull(X, there)
    assert here.next_event() == Pulled(X)
    assert there.transfer.counters.sends == 1


def test_what_the_store_can_never_hold_is_lost(make_node: MakeNode) -> None:
    here, there = make_node(store_bytes=8 << 20), make_node()
    there.put(X, bytes(30 << 20))
    here.pull(X, there)
    lost = here.next_event()
    assert isinstance(lost, Lost) and lost.cause is Cause.IMPOSSIBLE
    assert "can't fit" in lost.why


def test_nothing_answers_at_the_address(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(), make_node()
    there.put(X, data)
    here.pull(X, NodeAddress(9, "127.0.0.1", 1), there, size=len(data))
    assert here.next_event() == Pulled(X)


def test_a_dead_node_s_objects_are_lost(make_node: MakeNode) -> None:
    here = make_node()
    here.pull(X, NodeAddress(9, "127.0.0.1", 1), size=100)
    here.transfer.node_died(9)
    lost = here.next_event()
    assert isinstance(lost, Lost) and "node 9" in lost.why


def test_another_cluster_s_node_is_refused(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(Security(make_identity())), make_node(Security(make_identity()))
    there.put(X, data)
    here.pull(X, there, size=len(data))
    until(lambda: len(here.transfer._pulls))
    here.transfer.node_died(2)
    assert isinstance(here.next_event(), Lost)


def test_nodes_that_differ_about_trust_use_chunks(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(Security(IDENTITY)), make_node(Security(IDENTITY, trusted=True))
    there.put(X, data)
    here.pull(X, there)
    assert here.next_event() == Pulled(X)
    assert here.transfer._fetcher.bytes_in_chunks == len(data)


def test_a_cancelled_pull_leaves_nothing(make_node: MakeNode) -> None:
    here, there = make_node(), make_node()
    there.put(X, bytes(30 << 20))
    here.pull(X, there)
    here.transfer.cancel(X)
    there.put(Y, b"y")
    here.pull(Y, there)
    while here.next_event() != Pulled(Y):
        pass
    until(lambda: not len(here.transfer._pulls))
    until(lambda: X not in {info.object_id for info in here.store.list()} or here.store.contains(X))


def test_closing_in_the_middle_leaves_nothing(make_node: MakeNode) -> None:
    here, there = make_node(), make_node()
    there.put(X, bytes(30 << 20))
    here.pull(X, there)
    until(lambda: here.transfer._attempts)
    here.close()


def test_a_port_that_is_taken_is_said_at_once(make_node: MakeNode) -> None:
    there = make_node()
    with Store.create(8 << 20) as store:
        other = ObjectTransfer(store, 9, "127.0.0.1", IN_THE_CLEAR, port=there.address.port)
        with pytest.raises(OSError, match=str(there.address.port)):
            other.start()


def test_a_receiver_can_have_a_send_ended(make_node: MakeNode) -> None:
    here, there = make_node(), make_node()
    there.put(X, bytes(30 << 20))
    peer = Peer(there.address, lambda: 9, IN_THE_CLEAR)
    call = peer.pull(Request(X, 0, None, 0))
    next(call)
    assert peer.cancel(X) == 1
    with pytest.raises(grpc.RpcError):
        list(call)
    until(lambda: peer.cancel(X) == 0)
    peer.close()
    here.pull(X, there)
    assert here.next_event() == Pulled(X)


def test_it_imports_grpc_only_when_it_starts() -> None:
    code = (
        "import sys, orchestrator.transfer.transfer; "
        "bad = [name for name in ('grpc', 'google.protobuf', 'cryptography') if name in sys.modules]; "
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
