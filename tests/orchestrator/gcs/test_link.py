"""The link as the node's loop sees it."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.link import GcsLink
from orchestrator.gcs.messages import NodeSpec
from orchestrator.rpc.credentials import Authority, Identity, utc_now
from orchestrator.rpc.network_thread import NetworkThread

SPEC = NodeSpec("00000000000000aa", "host", {}, ResourceSet(), {})


@pytest.fixture
def thread() -> Iterator[NetworkThread]:
    thread = NetworkThread()
    yield thread
    thread.close()


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Authority.create(utc_now()).issue(SPEC.node_id, [], utc_now())


def poll_until(link: GcsLink, kind: type) -> Any:
    while True:
        select.select([link.fileno()], [], [], 1.0)
        for event in link.poll():
            if isinstance(event, kind):
                return event


def test_a_link_that_cannot_be_is_no_silence(
    thread: NetworkThread, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.gcs.client", None)
    link = GcsLink(thread, "127.0.0.1:1", identity, SPEC)
    answers: list[Any] = []
    link.submit(requests.ListJobs(), answers.append)
    assert "the link to the head failed: ModuleNotFoundError" in poll_until(link, messages.MustLeave).reason
    while not answers:
        link.poll()
    assert answers[0].code == "dead"
    link.close("it was of no use")


@pytest.mark.usefixtures("no_leaks")
def test_a_link_is_closed_while_it_looks_for_the_head(identity: Identity) -> None:
    thread = NetworkThread()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        link = GcsLink(thread, f"127.0.0.1:{silent.getsockname()[1]}", identity, SPEC)
        answers: list[Any] = []
        link.submit(requests.ListJobs(), answers.append)
        link.report(messages.Heartbeat(ResourceSet()))
        link.close("it took too long")
        link.close()
        thread.close()
    assert answers == []
