"""What the node hears of its zygote, above all when that is killed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest

from orchestrator.node.zygote_link import Exited, Forked, ZygoteGone, ZygoteLink


class Zygote:
    """The other end of a link, in the hands of the test."""

    def __init__(self) -> None:
        self.link = ZygoteLink(-1, {})
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.link._socket = ours

    def says(self, **message: object) -> None:
        self.socket.send(json.dumps(message).encode())

    def request(self) -> None:
        reading, writing = os.pipe()
        self.link.request(1, 0, "", reading, writing)


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.socket.close()
    zygote.link.discard()


def test_reports_come_in_order(zygote: Zygote) -> None:
    zygote.says(op="forked", token=1, pid=77)
    zygote.says(op="exited", pid=77, status=9, rss_max_bytes=5)
    assert zygote.link.read() == [Forked(1, 77, -1), Exited(77, 9, 5)]
    assert zygote.link.read() == []


@pytest.mark.parametrize("unread_request", [False, True])
def test_the_last_words_of_one_that_is_killed_are_heard(zygote: Zygote, unread_request: bool) -> None:
    """With a request unread the kernel reports a reset connection before what was said."""
    zygote.says(op="forked", token=1, pid=77)
    if unread_request:
        zygote.request()
    zygote.socket.close()
    assert zygote.link.read() == [Forked(1, 77, -1), ZygoteGone()]
    assert zygote.link.read() == []
