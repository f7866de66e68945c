"""Whose turn it is to be sent to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.transfer.push_manager import (
    Instruction,
    PeerDied,
    PushManager,
    RefuseSend,
    SendEnded,
    SendWanted,
    StartSend,
)

LARGE = 1 << 30


def starts(instructions: list[Instruction]) -> list[int]:
    return [one.send for one in instructions if isinstance(one, StartSend)]


def test_sends_start_at_once_while_there_is_room() -> None:
    turns = PushManager(total_max=2, peer_max=1)
    assert starts(turns.handle(SendWanted(1, 7, LARGE))) == [1]
    assert starts(turns.handle(SendWanted(2, 8, LARGE))) == [2]
    assert starts(turns.handle(SendWanted(3, 9, LARGE))) == []
    assert starts(turns.handle(SendEnded(1))) == [3]


def test_turns_go_round_the_peers() -> None:
    turns = PushManager(total_max=1, peer_max=1)
    turns.handle(SendWanted(1, 7, LARGE))
    for send in (2, 3, 4):
        turns.handle(SendWanted(send, 7, LARGE))
    turns.handle(SendWanted(5, 8, LARGE))
    order = []
    current = 1
    for _ in range(4):
        [current] = starts(turns.handle(SendEnded(current)))
        order.append(current)
    assert order == [2, 5, 3, 4]


def test_a_small_object_does_not_wait_for_large_ones() -> None:
    turns = PushManager(total_max=1, peer_max=1)
    turns.handle(SendWanted(1, 7, LARGE))
    assert starts(turns.handle(SendWanted(2, 7, LARGE))) == []
    assert starts(turns.handle(SendWanted(3, 7, 100))) == [3]


def test_one_that_asks_for_too_much_is_told_to_come_back() -> None:
    turns = PushManager(total_max=1, peer_max=1, waiting_max=2)
    for send in (1, 2, 3):
        turns.handle(SendWanted(send, 7, LARGE))
    [refusal] = turns.handle(SendWanted(4, 7, LARGE))
    assert isinstance(refusal, RefuseSend) and refusal.send == 4
    assert starts(turns.handle(SendWanted(5, 8, LARGE))) == []
    assert starts(turns.handle(SendEnded(1))) == [2]


def test_a_dead_peer_s_sends_are_refused() -> None:
    turns = PushManager(total_max=1, peer_max=1)
    turns.handle(SendWanted(1, 7, LARGE))
    turns.handle(SendWanted(2, 7, LARGE))
    turns.handle(SendWanted(3, 8, LARGE))
    assert turns.handle(PeerDied(7)) == [RefuseSend(2, "node 7 is dead")]
    assert starts(turns.handle(SendEnded(1))) == [3]


def test_a_send_that_is_given_up_while_it_waits_leaves_the_queue() -> None:
    turns = PushManager(total_max=1, peer_max=1)
    for send in (1, 2, 3):
        turns.handle(SendWanted(send, 7, LARGE))
    assert turns.handle(SendEnded(2)) == []
    assert starts(turns.handle(SendEnded(1))) == [3]
    assert turns.handle(SendEnded(99)) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.sampled_from([1, LARGE])), max_size=80))
def test_invariants_hold_whatever_is_asked(steps: list[tuple[int, int, int]]) -> None:
    turns = PushManager(total_max=3, peer_max=2, small_total_max=2, small_peer_max=1, waiting_max=3)
    alive: list[int] = []
    for number, (what, peer, size) in enumerate(steps):
        if what < 6:
            out = turns.handle(SendWanted(number, peer, size))
            alive.append(number)
        elif what < 9 and alive:
            out = turns.handle(SendEnded(alive.pop(what % len(alive))))
        else:
            out = turns.handle(PeerDied(peer))
        alive = [send for send in alive if RefuseSend not in {type(one) for one in out if one.send == send}]
        turns.validate()
    while alive:
        turns.handle(SendEnded(alive.pop()))
        turns.validate()
