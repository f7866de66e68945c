"""Joining with nothing but the join string, and everybody who should not."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.rpc import credentials, doorway, joining, listening
from orchestrator.rpc.credentials import Authority, Identity, utc_now
from orchestrator.rpc.doorway import Doorway
from orchestrator.rpc.join_string import JoinString
from orchestrator.rpc.joining import JoinDesk, Joined, JoinError
from orchestrator.rpc.listening import AddressTakenError
from orchestrator.rpc.versions import Versions

NODE = "00000000000000aa"
VERSIONS = Versions(1, "3.11")
LOCALHOST = "127.0.0.1"


class Desk:
    """A doorway without gRPC behind it."""

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        self.authority = Authority.create(utc_now()) if authority is None else authority
        self.identity = self.authority.issue("0" * 16, [LOCALHOST], utc_now())
        self.log: list[str] = []
        desk = JoinDesk(self.authority, self.identity, VERSIONS, "cluster")
        self.doorway = Doorway(listening.bind(LOCALHOST, 0), desk, str(folder / "grpc.sock"), self.log.append)

    @property
    def join_string(self) -> JoinString:
        return JoinString(LOCALHOST, self.doorway.port, self.authority.fingerprint(), self.authority.secret)


@asynccontextmanager
async def serving(folder: Path, authority: Authority | None = None) -> AsyncIterator[Desk]:
    desk = Desk(folder, authority)
    task = asyncio.create_task(desk.doorway.run())
    try:
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def join(where: JoinString, versions: Versions = VERSIONS, timeout_s: float = 20.0) -> Joined:
    return await joining.join(where, NODE, [LOCALHOST], versions, timeout_s=timeout_s)


async def until_counted(desk: Desk, kind: str) -> str:
    while not desk.doorway.counts[kind]:
        await asyncio.sleep(0.01)
    return desk.log[-1]


@pytest.mark.asyncio
async def test_who_has_the_join_string_gets_a_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path) as desk:
        joined = await join(desk.join_string)
        assert joined.cluster_id == "cluster" and joined.identity.ca == desk.authority.ca
        assert joined.identity.node_id == NODE and joined.identity.objection(utc_now()) == ""
        assert NODE in await until_counted(desk, "joined")


@pytest.mark.asyncio
async def test_a_wrong_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "WRONG_PROOF_PAUSE_S", 0.0)
    async with serving(tmp_path) as desk:
        with pytest.raises(JoinError, match="secret of the join string is not this cluster's"):
            await join(desk.join_string._replace(secret=os.urandom(16)))
        assert "was refused: the secret" in await until_counted(desk, "join_refused")
        assert (await join(desk.join_string)).cluster_id == "cluster"


@pytest.mark.asyncio
async def test_a_join_string_of_another_cluster(tmp_path: Path) -> None:
    async with serving(tmp_path) as desk:
        with pytest.raises(JoinError, match="another cluster than the join string"):
            await join(desk.join_string._replace(fingerprint=os.urandom(16)))
        await until_counted(desk, "join_broken")


@pytest.mark.asyncio
async def test_somebody_in_between_who_shows_the_right_ca(tmp_path: Path) -> None:
    """The CA certificate is no secret; but his own certificate is not signed by it."""
    real = Authority.create(utc_now())
    impostor = Authority.create(utc_now())
    async with serving(tmp_path, real._replace(key=impostor.key)) as desk:
        assert desk.join_string.fingerprint == real.fingerprint()
        with pytest.raises(JoinError, match="somebody listens there who is not the head"):
            await join(desk.join_string)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "versions, complaint",
    [(Versions(2, "3.11"), "node speaks protocol 2 and the head 1"), (Versions(1, "3.12"), "Python 3.12")],
)
async def test_other_versions(tmp_path: Path, versions: Versions, complaint: str) -> None:
    async with serving(tmp_path) as desk:
        with pytest.raises(JoinError, match=complaint):
            await join(desk.join_string, versions)
        assert complaint in await until_counted(desk, "join_refused")


@pytest.mark.asyncio
async def test_a_head_that_is_gone() -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        port = server.getsockname()[1]
    where = JoinString(LOCALHOST, port, bytes(16), bytes(16))
    with pytest.raises(JoinError, match=f"cluster at {LOCALHOST}:{port}: nothing listens there"):
        await join(where)


@pytest.mark.asyncio
async def test_a_head_that_says_nothing() -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        where = JoinString(LOCALHOST, server.getsockname()[1], bytes(16), bytes(16))
        with pytest.raises(JoinError, match=r"no answer within 0\.2 s"):
            await join(where, timeout_s=0.2)


@pytest.mark.asyncio
async def test_something_that_is_no_head() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, LOCALHOST, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(JoinError, match="does not speak as a head does"):
        await join(JoinString(LOCALHOST, port, bytes(16), bytes(16)))
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio
async def test_messages_that_make_no_sense(tmp_path: Path) -> None:
    async with serving(tmp_path) as desk:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        messages = [
            b"\xff\xff\xff\xff",
            b"\0\0\0\x05[1,2]",
            b"\0\0\0\x02{}",
            b"\0\0\0\x03{x}",
            b"\0\0\0\x09short",
        ]
        for number, data in enumerate(messages, 1):
            reader, writer = await joining.open_tls(LOCALHOST, desk.doorway.port, joining.PREFACE, context)
            writer.write(data)
            writer.write_eof() if writer.can_write_eof() else None
            if number == len(messages):
                writer.close()
            else:
                assert await reader.read() == b""
            while desk.doorway.counts["join_broken"] < number:
                await asyncio.sleep(0.01)
            await joining.end_streams(writer)
        assert (await join(desk.join_string)).cluster_id == "cluster"


@pytest.mark.asyncio
async def test_strangers_are_bounded_and_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "STRANGERS_MAX", 3)
    monkeypatch.setattr(doorway, "GREETING_TIMEOUT_S", 0.2)
    async with serving(tmp_path) as desk:
        connections = [await asyncio.open_connection(LOCALHOST, desk.doorway.port) for _ in range(6)]
        for reader, writer in connections:
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert desk.doorway.counts["too_many"] >= 1 and desk.doorway.counts["silent"] >= 3
        assert (await join(desk.join_string)).cluster_id == "cluster"


def test_a_port_that_is_taken() -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        with pytest.raises(
            AddressTakenError, match=r"is taken: another head.*choose another port with --port"
        ):
            listening.bind(LOCALHOST, server.getsockname()[1])
    with pytest.raises(OSError, match="cannot listen on 192"):
        listening.bind("192.0.2.1", 0)


def test_the_key_of_an_identity_is_never_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load: Callable[..., None] = ssl.SSLContext.load_cert_chain

    def spy(self: ssl.SSLContext, path: str) -> None:
        opened.append(path)
        load(self, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    identity: Identity = Authority.create(utc_now()).issue(NODE, [], utc_now())
    joining.load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), identity)
    assert [path.startswith("/proc/self/fd/") for path in opened] == [True]
    assert credentials.common_name(identity.certificate) == NODE
