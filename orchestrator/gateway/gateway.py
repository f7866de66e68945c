"""Carries messages between the processes of this node and those of others.

Out: a stand-in's channels are read, and each message leaves in a frame. What a process sends is held back
while the directory waits for acknowledgements of its borrowings; hence the node's own channel, in which it
says what it borrows, is read before each of its messages is sent.

In: a frame is sent on by the stand-in of the process it is from. If the receiver's ring is full it waits
here, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orchestrator.common.ids import Process
from orchestrator.gateway import frames
from orchestrator.gateway.link import Links
from orchestrator.gateway.stand_ins import MESSAGES_PER_TURN, StandIn, StandIns

#: Messages that may wait for one receiver's rings; one that has this many is stopped, and its node reads no
#: further frames for it... so the rest is dropped with a complaint.
BACKLOG_MAX = 1 << 20


class Gateway:
    """See the module's text.

    Args:
        here: index of this node.
        hopeless: what a channel raises when its receiver is gone.
        is_held: whether what a process of this node sends is to be held back.
        read_control: reads what has arrived in the node's own channels; False if it was too much for once.
    """

    def __init__(
        self,
        here: int,
        stand_ins: StandIns,
        links: Links,
        *,
        hopeless: tuple[type[Exception], ...],
        is_held: Callable[[int], bool],
        read_control: Callable[[], bool],
    ) -> None:
        self.here = here
        self._stand_ins = stand_ins
        self._links = links
        self._hopeless = hopeless
        self._is_held = is_held
        self.read_control = read_control
        #: frames that are held back, by the process that sent them: (node, frame)
        self._held: dict[int, deque[tuple[int, bytes]]] = {}
        #: stand-ins that were not read because their link is congested
        self._unread: dict[StandIn, None] = {}
        #: stand-ins with a backlog
        self._behind: dict[StandIn, None] = {}
        self.sent_count = 0
        self.received_count = 0

    # ------------------------------------------------------------ out

    def read(self, one: StandIn) -> bool:
        """Send on what has arrived for a process of another node; False if its link is congested."""
        node, target = one.process
        endpoint = one.endpoint
        links = self._links
        if links.is_congested(node):
            self._unread[one] = None
            return False
        for lane in (0, 1):
            messages = endpoint.receive_many(lane, MESSAGES_PER_TURN)
            if not messages:
                continue
            self.read_control()
            for source, payload in messages:
                self._send(node, source, frames.message(source, target, lane, payload))
        return True

    def _send(self, node: int, source: int, frame: bytes) -> None:
        self.sent_count += 1
        held = self._held.get(source)
        if held is not None:
            held.append((node, frame))
        elif self._is_held(source):
            self._held[source] = deque([(node, frame)])
        else:
            self._links.send(node, frame)

    def send_for(self, source: int, node: int, frame: bytes) -> None:
        """Send a frame on behalf of a process of this node, in order with what else it sends."""
        self._send(node, source, frame)

    def let_go(self, source: int) -> None:
        """What a process has sent need not be held back any more."""
        for node, frame in self._held.pop(source, ()):
            self._links.send(node, frame)

    # ------------------------------------------------------------ in

    def deliver(self, node: int, frame: frames.Frame) -> bool:
        """Send on a message from a process of another node; False if it has to wait."""
        self.received_count += 1
        one = self._stand_ins.known(node, frame.source) or self._stand_ins.of(Process(node, frame.source))
        if one.backlog or not self._try(one, frame.target, frame.lane, frame.payload):
            if len(one.backlog) < BACKLOG_MAX:
                one.backlog.append((frame.target, frame.lane, frame.payload))
            self._behind[one] = None
            return False
        return True

    def is_behind(self, one: StandIn) -> bool:
        """Tell whether messages from this process still wait for their receivers."""
        return bool(one.backlog)

    def _try(self, one: StandIn, target: int, lane: int, payload: bytes) -> bool:
        try:
            return one.endpoint.sender(target, lane).send(payload) != 0
        except self._hopeless:
            return True  # nobody is there any more: its end is news of its own

    # ------------------------------------------------------------ time

    def go_on(self) -> bool:
        """Try again what had to wait; True if something still does."""
        for one in list(self._behind):
            backlog = one.backlog
            done = 0
            full: set[tuple[int, int]] = set()
            left: list[tuple[int, int, bytes]] = []
            for target, lane, payload in backlog:
                # One full ring holds up only what is for it.
                if (target, lane) in full or not self._try(one, target, lane, payload):
                    full.add((target, lane))
                    left.append((target, lane, payload))
                else:
                    done += 1
            one.backlog = left
            if not left:
                del self._behind[one]
        for one in list(self._unread):
            if not self._links.is_congested(one.process.node):
                del self._unread[one]
                if self.read(one):
                    self._stand_ins.arm(one)
        return bool(self._behind or self._unread)

    def drop(self, one: StandIn) -> None:
        """A process of another node is gone."""
        self._behind.pop(one, None)
        self._unread.pop(one, None)
        self._stand_ins.drop(one)

    def source_gone(self, source: int) -> None:
        """A process of this node is gone. What it had sent is still sent, when that can be."""
        if not self._is_held(source):
            self.let_go(source)

    def describe(self) -> dict[str, Any]:
        """Return counts, for people."""
        return {
            "stand_ins": len(self._stand_ins),
            "sent": self.sent_count,
            "received": self.received_count,
            "held": sum(map(len, self._held.values())),
            "behind": len(self._behind),
        }
