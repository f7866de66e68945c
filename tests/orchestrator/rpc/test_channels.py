"""Mutual TLS between processes of a cluster, bounded and of one version."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.rpc import channels
from orchestrator.rpc.channels import grpc
from orchestrator.rpc.credentials import Authority, Identity, utc_now
from orchestrator.rpc.diagnosis import diagnose
from orchestrator.rpc.generated import gcs_pb2 as pb
from orchestrator.rpc.versions import Versions

LOCALHOST = "127.0.0.1"
VERSIONS = Versions(1, "3.11")
HOUR = datetime.timedelta(hours=1)
SIZE_MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(utc_now())


def node(authority: Authority, node_id: str = "00000000000000aa", **options: Any) -> Identity:
    return authority.issue(node_id, [LOCALHOST], options.pop("now", utc_now()), **options)


async def name_caller(request: Any, context: Any) -> Any:
    return pb.Name(name=channels.caller_of(context), blob=request.blob)


@asynccontextmanager
async def serving(identity: Identity, refused: list[str]) -> AsyncIterator[str]:
    handler = channels.unary(name_caller, pb.Name, pb.Name)
    server, port = channels.make_server(
        f"{LOCALHOST}:0", identity, VERSIONS, {"test.Service": {"Call": handler}},
        on_refused=lambda peer, text: refused.append(f"{peer}: {text}"),
        message_size_max_bytes=SIZE_MAX_BYTES,
    )  # fmt: skip
    await server.start()
    try:
        yield f"{LOCALHOST}:{port}"
    finally:
        await server.stop(None)


async def call(address: str, identity: Identity, blob: bytes = b"", versions: Versions = VERSIONS) -> Any:
    channel = channels.open_channel(address, identity)
    try:
        method: Callable[..., Awaitable[Any]] = channel.unary_unary(
            "/test.Service/Call",
            request_serializer=pb.Name.SerializeToString,
            response_deserializer=pb.Name.FromString,
        )
        return await method(pb.Name(blob=blob), metadata=versions.metadata(), timeout=20.0)
    finally:
        await channel.close(None)


async def refusal(address: str, identity: Identity, **options: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as found:
        await call(address, identity, **options)
    return found.value


@pytest.mark.asyncio
async def test_the_certificate_says_who_calls(authority: Authority) -> None:
    async with serving(node(authority), []) as address:
        assert (await call(address, node(authority, "00000000000000bb"))).name == "00000000000000bb"


@pytest.mark.asyncio
@pytest.mark.parametrize("off", [-HOUR, HOUR])
async def test_clocks_that_are_off_by_an_hour(authority: Authority, off: datetime.timedelta) -> None:
    """Certificates made by a clock that is ahead, or behind, of the one they are verified by."""
    wrong = Authority.create(utc_now() + off)
    async with serving(node(wrong, now=utc_now() + off), []) as address:
        assert (await call(address, node(wrong, now=utc_now() + off))).name == "00000000000000aa"


@pytest.mark.asyncio
async def test_no_stranger_is_answered(authority: Authority) -> None:
    other = Authority.create(utc_now())
    past = utc_now() - datetime.timedelta(days=10)
    async with serving(node(authority), []) as address:
        for stranger in (
            node(other),
            node(other)._replace(ca=authority.ca),
            node(authority, now=past, days=1),
        ):
            error = await refusal(address, stranger)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert (await call(address, node(authority))).name


@pytest.mark.asyncio
async def test_a_server_with_an_expired_certificate_is_not_believed(authority: Authority) -> None:
    past = utc_now() - datetime.timedelta(days=10)
    async with serving(node(authority, now=past, days=1), []) as address:
        assert (await refusal(address, node(authority))).code() is grpc.StatusCode.UNAVAILABLE
        assert f"certificate of {address} has expired" in await diagnose(address, node(authority))


@pytest.mark.asyncio
@pytest.mark.parametrize("versions", [Versions(2, "3.11"), Versions(1, "3.12")])
async def test_other_versions(authority: Authority, versions: Versions) -> None:
    refused: list[str] = []
    async with serving(node(authority), refused) as address:
        error = await refusal(address, node(authority), versions=versions)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert len(refused) == 1 and error.details() in refused[0] and "00000000000000aa" in refused[0]


@pytest.mark.asyncio
async def test_messages_are_bounded(authority: Authority) -> None:
    async with serving(node(authority), []) as address:
        assert len((await call(address, node(authority), blob=bytes(SIZE_MAX_BYTES - 1000))).blob) > 0
        error = await refusal(address, node(authority), blob=bytes(SIZE_MAX_BYTES + 1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.asyncio
async def test_an_address_that_is_taken(authority: Authority) -> None:
    with socket.create_server((LOCALHOST, 0)) as taken:
        with pytest.raises(OSError, match="is taken: another head, or another program"):
            channels.make_server(f"{LOCALHOST}:{taken.getsockname()[1]}", node(authority), VERSIONS, {})


@pytest.mark.asyncio
async def test_why_nobody_answers(authority: Authority) -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        address = f"{LOCALHOST}:{server.getsockname()[1]}"
    assert "nothing listens at" in await diagnose(address, node(authority))

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-something\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(hang_up, LOCALHOST, 0)
    address = f"{LOCALHOST}:{other.sockets[0].getsockname()[1]}"
    assert "breaks off the TLS handshake" in await diagnose(address, node(authority))
    other.close()
    await other.wait_closed()
