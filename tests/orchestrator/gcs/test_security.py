"""Who must not get in with a certificate, or with what is none: the head's log and the node both say why."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests, wire
from orchestrator.gcs.client import GcsClient, Peer
from orchestrator.gcs.requests import Call, Refused
from orchestrator.rpc import channels, joining
from orchestrator.rpc.credentials import Authority, Identity, utc_now
from orchestrator.rpc.diagnosis import diagnose
from orchestrator.rpc.generated import gcs_pb2 as pb
from orchestrator.rpc.versions import Versions, own_versions
from tests.orchestrator.gcs.conftest import HeadProcess, TestNode
from tests.waiting import until

StartHead = Callable[..., HeadProcess]
StartNode = Callable[..., TestNode]
NODE = "00000000000000aa"
OTHER_PYTHON = Versions(own_versions().protocol, "3.9")
OTHER_PROTOCOL = Versions(own_versions().protocol + 1, own_versions().python)


def spec(node_id: str = NODE) -> messages.NodeSpec:
    return messages.NodeSpec(node_id, "host", {}, ResourceSet(), {})


async def events_of(
    head: HeadProcess, identity: Identity, versions: Versions, node_id: str, wanted: type
) -> Any:
    """Run a client until something of this kind has come down."""
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_event(event: messages.LinkEvent) -> None:
        if isinstance(event, wanted) and not found.done():
            found.set_result(event)

    peer = Peer(head.join_string.address, identity, versions, spec(node_id))
    task = asyncio.create_task(GcsClient(peer, on_event, random.Random(1)).run())
    try:
        return await asyncio.wait_for(found, 30.0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def authority_of(folder: Path) -> Authority:
    return Authority.load(str(folder))


@pytest.mark.parametrize("versions", [OTHER_PROTOCOL, OTHER_PYTHON])
def test_other_versions_are_refused_on_both_sides(
    start_head: StartHead, start_node: StartNode, versions: Versions, folder: Path
) -> None:
    """A node that had joined, and was installed anew since."""
    head = start_head()
    identity = authority_of(folder).issue(NODE, [], utc_now())
    event = asyncio.run(events_of(head, identity, versions, NODE, messages.MustLeave))
    wanted = "Python 3.9" if versions is OTHER_PYTHON else "speaks protocol"
    assert wanted in event.reason
    until(lambda: wanted in head.log())


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("expired", "the certificate of this node expired"),
        ("other", "belongs to another cluster"),
    ],
)
def test_certificates_that_are_of_no_use(
    start_head: StartHead, folder: Path, name: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.gcs.client.EXPLAIN_AFTER_S", 0.0)
    head = start_head()
    past = utc_now() - datetime.timedelta(days=10)
    authority = authority_of(folder) if name == "expired" else Authority.create(utc_now())
    identity = authority.issue(NODE, [], past if name == "expired" else utc_now(), days=1)
    event = asyncio.run(events_of(head, identity, own_versions(), NODE, messages.Explain))
    assert complaint in event.text


def test_what_each_side_says_of_an_expired_certificate(start_head: StartHead, folder: Path) -> None:
    """The node whose clock is wrong believes that its certificate is good; the head does not."""
    head = start_head()
    past = utc_now() - datetime.timedelta(days=10)
    identity = authority_of(folder).issue(NODE, [], past, days=1)
    text = asyncio.run(diagnose(head.join_string.address, identity))
    assert "does not accept this node's certificate: the certificate of this node expired" in text
    assert "start the node again with the join string" in text
    until(lambda: "refused in the TLS handshake" in head.log() and "of no use here" in head.log())


def test_what_is_said_of_another_cluster(start_head: StartHead, folder: Path) -> None:
    head = start_head()
    ours, theirs = authority_of(folder), Authority.create(utc_now())
    foreign = theirs.issue(NODE, [], utc_now())
    text = asyncio.run(diagnose(head.join_string.address, foreign))
    assert "belongs to another cluster: its certificate is not of this CA" in text
    # One that knows our CA, and has a certificate of its own: only the head can tell.
    text = asyncio.run(diagnose(head.join_string.address, foreign._replace(ca=ours.ca)))
    assert "does not accept this node's certificate: it was issued by another cluster" in text
    good = ours.issue(NODE, [], utc_now())
    assert asyncio.run(diagnose(head.join_string.address, good)) == ""


async def raw_call(
    head: HeadProcess, identity: Identity, message: Any, versions: Versions | None = None
) -> Any:
    channel = channels.open_channel(head.join_string.address, identity)
    try:
        method = channel.unary_unary(
            f"/{wire.SERVICE}/{wire.CALL}",
            request_serializer=lambda data: data,
            response_deserializer=pb.Answer.FromString,
        )
        metadata = (versions or own_versions()).metadata()
        return wire.ANSWER.take(await method(message, metadata=metadata, timeout=20.0))
    finally:
        await channel.close(None)


def test_nobody_speaks_in_the_name_of_another_node(
    start_head: StartHead, start_node: StartNode, folder: Path
) -> None:
    head = start_head()
    node = start_node(head.join_string, "000000000000000a", is_head=True)
    node.event(messages.Registered)
    thief = authority_of(folder).issue(NODE, [], utc_now())
    request = wire.put_call(Call(1, 1, 1, requests.DeclareDead(1, "because I say so")))
    answer = asyncio.run(raw_call(head, thief, request.SerializeToString()))
    assert isinstance(answer, Refused) and "asked in the name of node 1" in answer.text
    event = asyncio.run(events_of(head, thief, own_versions(), "000000000000000a", messages.MustLeave))
    assert "it is not who it says it is" in event.reason
    counts = node.ask(requests.ClusterInfo()).counts
    assert counts["bad_calls"] == 1 and counts["bad_sessions"] == 1


def test_garbage_in_a_call_and_messages_that_are_too_large(
    start_head: StartHead, start_node: StartNode, folder: Path
) -> None:
    head = start_head()
    node = start_node(head.join_string, "000000000000000a", is_head=True)
    node.event(messages.Registered)
    with pytest.raises(channels.grpc.aio.AioRpcError):
        asyncio.run(raw_call(head, node.identity, b"\xff" * 100))
    with pytest.raises(channels.grpc.aio.AioRpcError) as found:
        asyncio.run(raw_call(head, node.identity, bytes(channels.MESSAGE_SIZE_MAX_BYTES + 1)))
    assert found.value.code() is channels.grpc.StatusCode.RESOURCE_EXHAUSTED
    answer = asyncio.run(raw_call(head, node.identity, pb.Request(node=1, number=7).SerializeToString()))
    assert isinstance(answer, Refused) and answer.code == "unsupported"
    assert node.ask(requests.ClusterInfo()).counts["unknown_messages"] == 1


def test_a_head_on_another_storage_is_another_cluster(
    start_head: StartHead, start_node: StartNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CA is another one: nodes of the old cluster say so, and do not believe it."""
    monkeypatch.setattr("orchestrator.gcs.client.EXPLAIN_AFTER_S", 0.0)
    head = start_head()
    node = start_node(head.join_string, "000000000000000a", is_head=True)
    node.event(messages.Registered)
    head.kill()
    start_head("memory", head.listen)
    node.until(
        lambda: any("another cluster" in e.text for e in node.events if isinstance(e, messages.Explain))
    )
    with pytest.raises(joining.JoinError, match="a head that was started anew has a new join string"):
        TestNode(head.join_string, NODE)
