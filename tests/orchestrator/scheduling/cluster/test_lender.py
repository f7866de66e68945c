from __future__ import annotations

from orchestrator.scheduling.cluster.lender import REPEAT_S, Answer, Lender, Want
from tests.simulation.leases_world import plain

ONE = plain(1)
PEER, CLIENT = 7, 7_000_001


class Node:
    """A lender with a number of free CPUs."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.lender = Lender(lambda _: self.room)

    def ask(
        self, want: int, *, seen: int = 0, serial: int = 1, since: int = 1, patient: bool = False
    ) -> list[Want]:
        return self.lender.asked(
            PEER, CLIENT, "a", ONE, want, seen=seen, serial=serial, since=since, patient=patient
        )


def test_what_is_granted_at_once_is_answered_with_nothing_left() -> None:
    node = Node(room=2)
    assert node.ask(1) == [Want(CLIENT, "a", ONE, 1)]
    assert node.lender.granted(CLIENT, "a") == PEER
    assert node.lender.settle(0.0) == [Answer(PEER, CLIENT, "a", 1, 0)]
    assert node.lender.deadline_s(0.0) is None


def test_of_an_impatient_ask_what_finds_no_room_is_refused() -> None:
    node = Node(room=2)
    node.ask(5)
    assert node.lender.settle(0.0) == [Want(CLIENT, "a", ONE, 2), Answer(PEER, CLIENT, "a", 1, 2)]
    node.room = 0  # somebody else had his turn before the workers had started
    assert node.lender.settle(0.1) == [Want(CLIENT, "a", ONE, 0), Answer(PEER, CLIENT, "a", 1, 0)]


def test_a_patient_ask_waits_and_the_answer_is_repeated() -> None:
    node = Node(room=0)
    node.ask(5, patient=True)
    answer = Answer(PEER, CLIENT, "a", 1, 5)
    assert node.lender.settle(0.0) == [answer]
    assert node.lender.settle(1.0) == []
    assert node.lender.settle(REPEAT_S) == [answer]


def test_grants_under_way_count_against_the_next_ask() -> None:
    node = Node(room=9)
    node.ask(3)
    for _ in range(2):
        node.lender.granted(CLIENT, "a")
    assert node.ask(3, seen=0, serial=2) == [Want(CLIENT, "a", ONE, 1)]
    assert node.ask(3, seen=2, serial=3) == [Want(CLIENT, "a", ONE, 3)]


def test_who_wants_nothing_more_and_has_seen_everything_is_forgotten() -> None:
    node = Node(room=9)
    node.ask(1)
    node.lender.granted(CLIENT, "a")
    node.ask(0, seen=0, serial=2)
    assert node.lender.settle(0.0) == [Answer(PEER, CLIENT, "a", 2, 0)]
    assert node.lender.granted(CLIENT, "a") == PEER, "it may not have heard of the grant"
    node.ask(0, seen=2, serial=3)
    assert node.lender.settle(0.0) == [Answer(PEER, CLIENT, "a", 3, 0)]
    assert node.lender.granted(CLIENT, "a") is None
    assert node.ask(1, seen=2, serial=4) == [Want(CLIENT, "a", ONE, 1)], "it counts on"
    assert node.ask(1, seen=0, serial=5, since=5) == [Want(CLIENT, "a", ONE, 1)], "or anew"


def test_who_has_forgotten_what_was_granted_counts_anew() -> None:
    node = Node(room=9)
    node.ask(3)
    node.lender.granted(CLIENT, "a")
    assert node.ask(3, serial=7, since=7) == [Want(CLIENT, "a", ONE, 3)]
    assert node.ask(9, serial=6, since=1) == [], "from before"


def test_an_ask_that_was_overtaken_changes_nothing() -> None:
    node = Node(room=9)
    node.ask(3, serial=5)
    assert node.ask(8, serial=4) == []


def test_a_node_that_drains_keeps_nothing() -> None:
    node = Node(room=9)
    node.ask(3, patient=True)
    node.lender.settle(0.0)
    node.lender.drain()
    assert node.lender.settle(0.1) == [Want(CLIENT, "a", ONE, 0), Answer(PEER, CLIENT, "a", 1, 0)]
    assert node.ask(3, serial=2) == [Want(CLIENT, "a", ONE, 0)]
    assert node.lender.settle(0.2) == [Answer(PEER, CLIENT, "a", 2, 0)]


def test_what_nobody_has_asked_for_is_nobody_s() -> None:
    node = Node(room=9)
    assert node.lender.granted(1, "a") is None and node.lender.failed(1, "a") is None


def test_a_client_that_is_gone_is_forgotten() -> None:
    node = Node(room=0)
    node.ask(3, patient=True)
    node.lender.client_gone(CLIENT)
    assert node.lender.settle(9.0) == [] and node.lender.deadline_s(9.0) is None
