"""Strangers, liars, connections that break, processes that are killed, stores that are full."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from orchestrator.rpc.generated import objects_pb2 as pb
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.data_server import TOKEN_LIFE_S, TOKENS_MAX, Tokens
from orchestrator.transfer.events import Cause, Lost, Pulled
from orchestrator.transfer.objects_service import LOCATE_MAX, SERVICE
from orchestrator.transfer.security import Security
from orchestrator.transfer.wire import (
    ACCEPTED,
    ANSWER_BYTES,
    HELLO_BYTES,
    REQUEST_BYTES,
    Answer,
    Hello,
    Request,
    Status,
)
from tests.orchestrator.transfer.certificates import make_identity
from tests.orchestrator.transfer.conftest import MakeNode, Node
from tests.waiting import until

X, Y = b"X" * 16, b"Y" * 16
pytestmark = pytest.mark.usefixtures("no_leaks")


def data_port(node: Node) -> int:
    assert node.transfer._data_server is not None
    return node.transfer._data_server.port


def fetch_again(here: Node, there: Node, data: bytes) -> None:
    """It still serves whoever asks as agreed."""
    there.put(Y, data)
    here.pull(Y, there)
    assert here.next_event() == Pulled(Y)
    assert here.read(Y) == data


# ---------------------------------------------------------------- who knocks


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n" + b"x" * 100,
        bytes(HELLO_BYTES),
        Hello(1, b"guess" * 6 + b"ed").pack(),
        os.urandom(1 << 16),
    ],
    ids=["nothing", "a browser", "zeros", "a guessed token", "noise"],
)
def test_strangers_at_the_data_port_are_refused_and_counted(
    says: bytes, make_node: MakeNode, data: bytes
) -> None:
    here, there = make_node(), make_node()
    with socket.create_connection(("127.0.0.1", data_port(there))) as stranger:
        stranger.sendall(says)
        if not says:
            stranger.shutdown(socket.SHUT_WR)
        try:
            assert stranger.recv(1) == b""
        except ConnectionResetError:
            pass
    until(lambda: there.transfer.counters.refused == 1)
    assert "127.0.0.1" in there.transfer.counters.last_refusal
    fetch_again(here, there, data)


def test_a_token_is_good_once_for_one_node_and_not_for_long() -> None:
    now_s = 5.0
    tokens = Tokens(lambda: now_s)
    token = tokens.make(7)
    assert token is not None
    assert not tokens.use(8, token)
    assert not tokens.use(7, token), "it was shown by another node before"
    token = tokens.make(7)
    assert token is not None
    assert tokens.use(7, token) and not tokens.use(7, token)
    late = tokens.make(7)
    assert late is not None
    now_s += TOKEN_LIFE_S
    assert not tokens.use(7, late)
    assert all(tokens.make(7) for _ in range(TOKENS_MAX))
    assert tokens.make(7) is None
    now_s += TOKEN_LIFE_S
    assert tokens.make(7) is not None


def connected(node: Node) -> socket.socket:
    token = node.transfer._data_server._tokens.make(9)  # type: ignore[union-attr]
    assert token is not None
    sock = socket.create_connection(("127.0.0.1", data_port(node)))
    sock.sendall(Hello(9, token).pack())
    assert sock.recv(1) == ACCEPTED
    return sock


def test_a_peer_that_sends_nonsense_is_hung_up_on(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(), make_node()
    with connected(there) as sock:
        sock.sendall(os.urandom(REQUEST_BYTES))
        assert sock.recv(1) == b""
    until(lambda: there.transfer.counters.refused == 1)
    fetch_again(here, there, data)


@pytest.mark.parametrize(
    "offset, size, crc, status",
    [
        (4_000_000, None, 0, Status.WRONG),
        (0, 5, 0, Status.WRONG),
        (10, None, 1, Status.DIFFERENT),
    ],
)
def test_a_request_that_makes_no_sense_is_answered(
    offset: int, size: int | None, crc: int, status: Status, make_node: MakeNode, data: bytes
) -> None:
    there = make_node()
    there.put(X, data)
    with connected(there) as sock:
        sock.sendall(Request(X, offset, size, crc).pack())
        assert Answer.unpack(sock.recv(ANSWER_BYTES)) == Answer(status, len(data))
        sock.sendall(Request(Y, 0, None, 0).pack())
        assert Answer.unpack(sock.recv(ANSWER_BYTES)).status is Status.ABSENT


def test_without_a_certificate_of_the_cluster_nobody_is_served(make_node: MakeNode) -> None:
    identity = make_identity()
    there = make_node(Security(identity))
    request = pb.OpenDataRequest(node=1).SerializeToString()
    for credentials in (
        None,
        grpc.ssl_channel_credentials(identity.ca),
        grpc.ssl_channel_credentials(identity.ca, *make_identity()[:0:-1]),
    ):
        channel = (
            grpc.insecure_channel(there.address.target)
            if credentials is None
            else grpc.secure_channel(there.address.target, credentials)
        )
        with channel, pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/{SERVICE}/OpenData")(request, timeout=5.0)
        assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_senseless_and_oversized_calls_are_refused(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(), make_node()
    with grpc.insecure_channel(there.address.target) as channel:
        for method, message in (
            ("Locate", pb.LocateRequest(object_ids=[b"short"]).SerializeToString()),
            ("Locate", pb.LocateRequest(object_ids=[X] * (LOCATE_MAX + 1)).SerializeToString()),
            ("Locate", bytes(8 << 20)),
            ("Cancel", b"\xff\xff\xff"),
            ("Nothing", b""),
        ):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=10.0)
        with pytest.raises(grpc.RpcError):
            list(channel.unary_stream(f"/{SERVICE}/Pull")(pb.PullRequest(object_id=b"?").SerializeToString()))
    fetch_again(here, there, data)


# ---------------------------------------------------------------- who answers


@contextmanager
def liar(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Somebody who accepts data connections and answers as `serve` does. Yields his port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    try:
                        sock.recv(HELLO_BYTES, socket.MSG_WAITALL)
                        sock.sendall(ACCEPTED)
                        sock.recv(REQUEST_BYTES, socket.MSG_WAITALL)
                        serve(sock)
                    except OSError:
                        pass

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def hang_up(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


LIES: dict[str, Callable[[socket.socket], None]] = {
    "garbage": lambda sock: sock.sendall(os.urandom(ANSWER_BYTES)),
    "an unknown status": lambda sock: sock.sendall(struct.pack("<4sIQ", b"got\n", 99, 3_000_001)),
    "an oversized claim": lambda sock: sock.sendall(struct.pack("<4sIQ", b"got\n", 0, 1 << 63)),
    "another size": lambda sock: sock.sendall(Answer(Status.OK, 17).pack() + bytes(17)),
    "a truncated stream": lambda sock: sock.sendall(Answer(Status.OK, 3_000_001).pack() + bytes(5)),
    "nothing": lambda sock: None,
    "a reset": hang_up,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_s_bytes_are_never_sealed(
    lie: str, make_node: MakeNode, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, bad, good = make_node(), make_node(), make_node()
    bad.put(X, data)
    good.put(X, data)
    with liar(LIES[lie]) as port:
        monkeypatch.setattr(bad.transfer._data_server, "port", port)
        service = bad.transfer._service
        monkeypatch.setattr(service, "_data_port", port)
        here.pull(X, bad, good, size=len(data))
        assert here.next_event() == Pulled(X)
    assert here.read(X) == data


# ---------------------------------------------------------------- what breaks


@contextmanager
def breaking_proxy(port: int, after_bytes: int) -> Iterator[int]:
    """A data port whose first connection breaks after so many bytes, and that lets nobody in later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            client, _ = listener.accept()
            listener.close()
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                server.sendall(client.recv(HELLO_BYTES, socket.MSG_WAITALL))
                client.sendall(server.recv(1))
                server.sendall(client.recv(REQUEST_BYTES, socket.MSG_WAITALL))
                left = after_bytes
                while left and (part := server.recv(min(left, 1 << 16))):
                    client.sendall(part)
                    left -= len(part)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_what_broke_goes_on_elsewhere_at_the_same_byte(
    make_node: MakeNode, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, first, second = make_node(), make_node(), make_node()
    first.put(X, data)
    second.put(X, data)
    with breaking_proxy(data_port(first), ANSWER_BYTES + 2_000_000) as port:
        monkeypatch.setattr(first.transfer._service, "_data_port", port)
        here.pull(X, first, second, size=len(data))
        assert here.next_event() == Pulled(X)
    assert here.read(X) == data
    assert second.transfer.counters.bytes_sent == len(data) - 2_000_000


def test_an_object_that_came_out_different_is_not_mixed_with_the_first(
    make_node: MakeNode, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, first, second = make_node(), make_node(), make_node()
    other = bytes(len(data))
    first.put(X, data)
    second.put(X, other)
    with breaking_proxy(data_port(first), ANSWER_BYTES + 2_000_000) as port:
        monkeypatch.setattr(first.transfer._service, "_data_port", port)
        here.pull(X, first, second, size=len(data))
        assert here.next_event() == Pulled(X)
    assert here.read(X) == other


SERVE = """
import sys
from orchestrator.transfer.security import Security
from orchestrator.transfer.transfer import ObjectTransfer
from plasma.store import Store

size, direct = int(sys.argv[1]), sys.argv[2] == "True"
store = Store.create(size + (64 << 20))
store.put_parts(b"X" * 16, [bytes(size)])
print(ObjectTransfer(store, 7, "127.0.0.1", Security(None), direct=direct).start().port, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("direct", [True, False])
def test_a_source_that_is_killed_in_the_middle_is_replaced(direct: bool, make_node: MakeNode) -> None:
    size = 200 << 20
    here, there = make_node(store_bytes=size + (64 << 20)), make_node(store_bytes=size + (64 << 20))
    there.put(X, bytes(size))
    command = [sys.executable, "-c", SERVE, str(size), str(direct)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = NodeAddress(7, "127.0.0.1", int(process.stdout.readline()))
        here.pull(X, address, there, size=size)
        until(lambda: (landing := here.transfer._landings.get(X)) is None or landing.received_bytes > 0)
        process.kill()
    here.transfer.node_died(7)
    assert here.next_event() == Pulled(X)
    assert here.read(X) == bytes(size)


# ---------------------------------------------------------------- stores


def test_a_spilled_object_is_sent_and_room_is_made_by_spilling(make_node: MakeNode, tmp_path: object) -> None:
    here, there = make_node(), make_node(store_bytes=16 << 20, spill_directory=str(tmp_path))
    objects = {bytes([n]) * 16: bytes([n]) * (5 << 20) for n in range(6)}
    for object_id, content in objects.items():
        there.put(object_id, content)
    assert any(info.state == "spilled" for info in there.store.list())
    for object_id in objects:
        here.pull(object_id, there)
    assert {here.next_event() for _ in objects} == {Pulled(object_id) for object_id in objects}
    assert all(here.read(object_id) == content for object_id, content in objects.items())


def test_a_store_full_of_pinned_objects_is_waited_for(make_node: MakeNode, data: bytes) -> None:
    here, there = make_node(store_bytes=8 << 20), make_node()
    there.put(X, data)
    here.put(Y, bytes(6 << 20))
    pinned = here.store.get(Y, 0)
    here.pull(X, there, size=len(data))
    until(lambda: here.transfer._pulls.deadline_s() is not None)
    pinned.release()
    here.store.delete(Y)
    assert here.next_event() == Pulled(X)
    assert here.read(X) == data


def test_an_object_that_is_lost_where_it_was_is_lost_for_a_reason(make_node: MakeNode) -> None:
    here, there = make_node(), make_node()
    there.store.declare(X)
    here.pull(X, there)
    lost = here.next_event()
    assert isinstance(lost, Lost) and lost.cause is Cause.NO_SOURCE
