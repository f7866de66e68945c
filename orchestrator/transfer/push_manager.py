"""Decides whose turn it is to be sent an object: events in, instructions out.

A *send* is asked for by a peer, waits, is under way, and ends. At most `total_max` are under way, and
`peer_max` to one peer. Turns go round the peers that wait, so one that asks for a thousand objects doesn't
keep others waiting for more than one of them; within a peer they are served in the order they came. Small
objects have turns of their own: a large one takes seconds, and who waits for a small one would notice.

A peer that has `waiting_max` sends waiting is told to come back later, so nothing here grows without bound.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

#: Sends up to this size have turns of their own.
SMALL_BYTES_MAX = 1 << 20


class SendWanted(NamedTuple):
    """A peer asks for `size_bytes` of an object. `send` is a number the caller never uses again."""

    send: int
    peer: int
    size_bytes: int


class SendEnded(NamedTuple):
    """A send is over, or is given up while it waits."""

    send: int


class PeerDied(NamedTuple):
    """A node is gone: what waits for it is refused.

    What is under way ends by itself, as its connection broke.
    """

    peer: int


class StartSend(NamedTuple):
    """It is this send's turn."""

    send: int


class RefuseSend(NamedTuple):
    """This send is not to be; `why` is for the peer."""

    send: int
    why: str


Event = SendWanted | SendEnded | PeerDied
Instruction = StartSend | RefuseSend


class _Turns:
    """One kind of sends."""

    def __init__(self, total_max: int, peer_max: int) -> None:
        self.total_max = total_max
        self.peer_max = peer_max
        self.under_way: dict[int, int] = {}
        self.count_of: dict[int, int] = {}
        #: peers that wait, the next one first; none with an empty queue
        self.waiting: OrderedDict[int, deque[int]] = OrderedDict()

    def start_next(self) -> int | None:
        """Return the next send that may begin."""
        if len(self.under_way) >= self.total_max:
            return None
        for peer in self.waiting:
            if self.count_of.get(peer, 0) < self.peer_max:
                break
        else:
            return None
        queue = self.waiting[peer]
        send = queue.popleft()
        if queue:
            self.waiting.move_to_end(peer)
        else:
            del self.waiting[peer]
        self.under_way[send] = peer
        self.count_of[peer] = self.count_of.get(peer, 0) + 1
        return send

    def remove(self, send: int, peer: int) -> None:
        if self.under_way.pop(send, None) is not None:
            self.count_of[peer] -= 1
            if not self.count_of[peer]:
                del self.count_of[peer]
        elif send in self.waiting.get(peer, ()):
            self.waiting[peer].remove(send)
            if not self.waiting[peer]:
                del self.waiting[peer]


class PushManager:
    """See the module's text."""

    def __init__(
        self,
        *,
        total_max: int = 8,
        peer_max: int = 2,
        small_total_max: int = 16,
        small_peer_max: int = 4,
        waiting_max: int = 256,
    ) -> None:
        self._large = _Turns(total_max, peer_max)
        self._small = _Turns(small_total_max, small_peer_max)
        self._waiting_max = waiting_max
        #: the peer and the kind of each send that waits or is under way
        self._sends: dict[int, tuple[int, _Turns]] = {}

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event into account and return what to do."""
        out: list[Instruction] = []
        if isinstance(event, SendWanted):
            self._wanted(event, out)
        elif isinstance(event, SendEnded):
            if (known := self._sends.pop(event.send, None)) is not None:
                known[1].remove(event.send, known[0])
        else:
            for turns in (self._small, self._large):
                for send in turns.waiting.pop(event.peer, ()):
                    del self._sends[send]
                    out.append(RefuseSend(send, f"node {event.peer} is dead"))
        for turns in (self._small, self._large):
            while (next_send := turns.start_next()) is not None:
                out.append(StartSend(next_send))
        return out

    def _wanted(self, event: SendWanted, out: list[Instruction]) -> None:
        assert event.send not in self._sends
        turns = self._small if event.size_bytes <= SMALL_BYTES_MAX else self._large
        queue = turns.waiting.get(event.peer)
        if queue is not None and len(queue) >= self._waiting_max:
            why = f"{len(queue)} objects wait to be sent to node {event.peer} already"
            out.append(RefuseSend(event.send, why))
            return
        turns.waiting.setdefault(event.peer, deque()).append(event.send)
        self._sends[event.send] = (event.peer, turns)

    def validate(self) -> None:
        """Raise AssertionError if an invariant doesn't hold."""
        for turns in (self._small, self._large):
            assert len(turns.under_way) <= turns.total_max
            assert all(0 < count <= turns.peer_max for count in turns.count_of.values())
            assert sum(turns.count_of.values()) == len(turns.under_way)
            assert all(0 < len(queue) <= self._waiting_max for queue in turns.waiting.values())
            mine = {send for send, (_, kind) in self._sends.items() if kind is turns}
            waiting = {send for queue in turns.waiting.values() for send in queue}
            assert mine == waiting | set(turns.under_way)
            # Nobody waits who could be sent to.
            if len(turns.under_way) < turns.total_max:
                assert all(turns.count_of.get(peer, 0) == turns.peer_max for peer in turns.waiting)
