"""Messages that do not fit now arrive later, in order."""

from __future__ import annotations

import json

import pytest

from orchestrator.node import outbox as module
from orchestrator.node.outbox import Outbox


class Gone(Exception):
    """The peer is dead."""


class Ring:
    """A channel with room for a few messages."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[bytes] = []
        self.dead = False

    def send(self, payload: bytes) -> int:
        if self.dead:
            raise Gone
        if len(self.taken) >= self.room:
            return 0
        self.taken.append(payload)
        return len(self.taken)


@pytest.fixture
def rings() -> dict[int, Ring]:
    return {1: Ring(2), 2: Ring(100)}


@pytest.fixture
def outbox(rings: dict[int, Ring]) -> Outbox:
    def open_sender(address: int) -> Ring:
        if address not in rings:
            raise Gone
        return rings[address]

    return Outbox(open_sender, (Gone,))


def numbers(ring: Ring) -> list[int]:
    return [json.loads(payload)["n"] for payload in ring.taken]


def test_order_is_kept_when_a_ring_is_full(outbox: Outbox, rings: dict[int, Ring]) -> None:
    for n in range(5):
        outbox.send(1, {"n": n})
    assert numbers(rings[1]) == [0, 1] and outbox.backlog_bytes(1) > 0
    rings[1].room = 3
    assert outbox.flush() is True
    outbox.send(1, {"n": 5})
    rings[1].room = 100
    assert outbox.flush() is False
    assert numbers(rings[1]) == [0, 1, 2, 3, 4, 5] and outbox.backlog_bytes(1) == 0


def test_a_full_ring_stops_nobody_else(outbox: Outbox, rings: dict[int, Ring]) -> None:
    for n in range(5):
        outbox.broadcast([1, 2], {"n": n})
    assert numbers(rings[2]) == [0, 1, 2, 3, 4]


def test_messages_to_the_dead_are_dropped(outbox: Outbox, rings: dict[int, Ring]) -> None:
    for n in range(5):
        outbox.send(1, {"n": n})
    rings[1].dead = True
    assert outbox.flush() is False
    outbox.send(99, {"n": 0})
    assert outbox.dropped_count == 4


def test_a_backlog_has_a_bound(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_MAX", 3)
    for n in range(10):
        outbox.send(1, {"n": n})
    assert outbox.dropped_count == 5


def test_one_kind_of_message_can_be_dropped(outbox: Outbox, rings: dict[int, Ring]) -> None:
    for n in range(4):
        outbox.send(1, {"n": n})
        outbox.send_payload(1, b'{"op":"log","n":9}')
    assert outbox.drop_waiting(1, b'{"op":"log"') == 3
    rings[1].room = 100
    outbox.flush()
    assert numbers(rings[1]) == [0, 9, 1, 2, 3]
