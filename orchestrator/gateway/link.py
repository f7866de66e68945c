"""The links of a node: one to each node that it has something to say to, one from each that speaks to it.

========== =============================== ===========================================================
dialling   what happens                    then
========== =============================== ===========================================================
IDLE       nothing to say, or it is early  CONNECTING when there is, or the pause is over
CONNECTING TCP, TLS, greeting, proofs      OPEN; IDLE with a longer pause when it fails
OPEN       frames out, acknowledgements in IDLE when the connection breaks: nothing is lost
GONE       the node is dead, or the ends   for good
           disagree about what arrived
========== =============================== ===========================================================

A link is one-way, so that there is never a question which of two connections counts: who has something to say
dials. What the connections lose, `stream` sends again. How long a node may be out of reach before it is dead
is not decided here.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from orchestrator.gateway import frames, handshake
from orchestrator.gateway.answerer import Answerer
from orchestrator.gateway.handshake import Greeting, Lines, Refused
from orchestrator.gateway.stream import Incoming, LinkLost, Outgoing
from orchestrator.gateway.wire import Wire, WireClosed

#: Pause before the next attempt to connect: doubled from the first to the last.
PAUSE_S = (0.05, 2.0)
#: A connection that has not come through after this time is given up and begun anew.
CONNECT_TIMEOUT_S = 5.0
#: Bytes that may wait for acknowledgement before whoever fills the link is told to pause.
KEPT_BYTES_MAX = 64 << 20
#: Bytes that are handed to a connection at once.
BURST_BYTES = 1 << 20
#: An acknowledgement waits so long for more to acknowledge: it only frees memory at the other end.
ACK_DELAY_S = 0.02
#: Connections that have not shown who they are; more are closed at once.
STRANGERS_MAX = 64


class ReactorLike(Protocol):
    """What is needed of the node's event loop."""

    def watch(self, fd: int, callback: Callable[[], bool | None]) -> None: ...
    def watch_writable(self, fd: int, callback: Callable[[], None] | None) -> None: ...
    def forget(self, fd: int) -> None: ...


class Identity(NamedTuple):
    """Who this node is."""

    cluster: str
    node: int
    incarnation: str
    secret: bytes
    #: TLS as the dialling and as the listening side; None on a trusted network.
    tls_client: ssl.SSLContext | None = None
    tls_server: ssl.SSLContext | None = None
    #: The name in the certificates of the cluster's nodes.
    server_name: str = ""


class Links:
    """All links of one node.

    Args:
        on_frame: called with the index of a node and a frame of its; returns True if that was only passed on.
            It must not raise.
        complain: called with what a person should know.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        identity: Identity,
        reactor: ReactorLike,
        listener: socket.socket,
        on_frame: Callable[[int, frames.Frame], bool | None],
        complain: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self.identity = identity
        self.reactor = reactor
        self._listener = listener
        self.on_frame = on_frame
        self.complain = complain
        self.now = now
        self._outgoing: dict[int, Dialler] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        #: What has arrived from each node, over all its connections; and of which incarnation it is.
        self.incoming: dict[int, tuple[str, Incoming]] = {}
        self._open: dict[int, Answerer] = {}
        self._strangers: dict[Answerer, float] = {}
        #: Connections on which something is to be acknowledged, and when.
        self._unacknowledged: dict[Answerer, float] = {}
        self._dead: set[int] = set()
        self._dirty: set[Dialler] = set()
        self.refused_count = 0
        listener.setblocking(False)
        reactor.watch(listener.fileno(), self._accept)

    # ------------------------------------------------------------ sending

    def know(self, node: int, host: str, port: int) -> None:
        """Learn where a node listens."""
        self._addresses[node] = (host, port)

    def send(self, node: int, frame: bytes) -> None:
        """Send a frame, now or as soon as there is a connection. To a dead node nothing is sent."""
        if node in self._dead:
            return
        link = self._outgoing.get(node)
        if link is None:
            link = self._outgoing[node] = Dialler(self, node)
        link.stream.append(frame)
        self._dirty.add(link)

    def is_congested(self, node: int) -> bool:
        """Tell whether so much waits for a node that nothing more should be sent for now."""
        link = self._outgoing.get(node)
        return link is not None and link.stream.kept_bytes > KEPT_BYTES_MAX

    def waiting_bytes(self, node: int) -> int:
        """Return how much waits for a node, sent and not acknowledged included."""
        link = self._outgoing.get(node)
        return link.stream.kept_bytes if link is not None else 0

    def flush(self) -> bool:
        """Hand what was sent since the last call to the connections; True if one is still to be made."""
        waits = False
        while self._dirty:
            if not self._dirty.pop().go_on():
                waits = True
        return waits

    def tick(self) -> float:
        """Begin what is due; return the seconds until the next call is."""
        now_s = self.now()
        due_s = 60.0
        for link in list(self._outgoing.values()):
            due_s = min(due_s, link.tick(now_s))
        for stranger, since_s in list(self._strangers.items()):
            if now_s - since_s > CONNECT_TIMEOUT_S:
                stranger.refuse("it did not say who it is")
        if self._strangers:
            due_s = min(due_s, 1.0)
        for answerer, when_s in list(self._unacknowledged.items()):
            if when_s <= now_s:
                answerer.acknowledge()
            else:
                due_s = min(due_s, when_s - now_s)
        return due_s

    def node_died(self, node: int) -> None:
        """Close all links with a node."""
        self._dead.add(node)
        link = self._outgoing.pop(node, None)
        if link is not None:
            self._dirty.discard(link)
            link.close()
        answerer = self._open.pop(node, None)
        if answerer is not None:
            answerer.close()
        self.incoming.pop(node, None)
        self._addresses.pop(node, None)

    def address_of(self, node: int) -> tuple[str, int] | None:
        """Return where a node listens."""
        return self._addresses.get(node)

    def close(self) -> None:
        """Close everything."""
        for answerer in list(self._unacknowledged):
            answerer.acknowledge()
        for link in self._outgoing.values():
            link.close()
        for answerer in [*self._open.values(), *self._strangers]:
            answerer.close()
        self.reactor.forget(self._listener.fileno())
        self._listener.close()

    def status(self) -> dict[int, str]:
        """Return the state of the link to each node, for people."""
        return {node: link.describe() for node, link in self._outgoing.items()}

    # ------------------------------------------------------------ being spoken to

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self.complain(f"a connection could not be accepted: {error}")
                return
            if len(self._strangers) >= STRANGERS_MAX:
                self.refused_count += 1
                sock.close()
                continue
            self._strangers[Answerer(self, sock)] = self.now()

    def is_dead(self, node: int) -> bool:
        """Tell whether a node was declared dead."""
        return node in self._dead

    def admit(self, answerer: Answerer, greeting: Greeting) -> Incoming:
        """A connection has shown that it is this node's.

        Raises:
            Refused: it is dead, or another incarnation than the one that is known.
        """
        node = greeting.node
        if node in self._dead:
            raise Refused(
                f"node {node} was declared dead: it has to leave, and may join again as another node"
            )
        known = self.incoming.get(node)
        if known is None:
            known = self.incoming[node] = (greeting.incarnation, Incoming())
        if known[0] != greeting.incarnation:
            raise Refused(f"node {node} has been restarted: it has to join again as another node")
        former = self._open.get(node)
        if former is not None and former is not answerer:
            former.close()
        self._open[node] = answerer
        self._strangers.pop(answerer, None)
        return known[1]

    def acknowledge_later(self, answerer: Answerer) -> bool:
        """Have a connection acknowledge what has arrived on it, in a while; False if that was known."""
        if answerer in self._unacknowledged:
            return False
        self._unacknowledged[answerer] = self.now() + ACK_DELAY_S
        return True

    def acknowledged(self, answerer: Answerer) -> None:
        """All that has arrived on a connection is acknowledged."""
        self._unacknowledged.pop(answerer, None)

    def leave(self, answerer: Answerer) -> None:
        """A connection is over."""
        self._strangers.pop(answerer, None)
        self._unacknowledged.pop(answerer, None)
        for node, one in list(self._open.items()):
            if one is answerer:
                del self._open[node]


class Dialler:
    """The link to one node."""

    def __init__(self, links: Links, node: int) -> None:
        self._links = links
        self._node = node
        self.stream = Outgoing()
        self._wire: Wire | None = None
        self._lines = Lines()
        self._decoder = frames.Decoder()
        self._greeting: Greeting | None = None
        self._greeted = False
        self._proved = False
        self._is_open = False
        self._waits_to_write = False
        self._gone = ""
        self._pause_s = 0.0
        self._not_before_s = 0.0
        self._began_s = 0.0
        self._said = ""

    def describe(self) -> str:
        """Return the state, for people."""
        if self._gone:
            return f"gone: {self._gone}"
        waits = f", {self.stream.kept_bytes} bytes wait" if self.stream.kept_bytes else ""
        return ("open" if self._is_open else "connecting" if self._wire else "idle") + waits

    def tick(self, now_s: float) -> float:
        """Begin or give up a connection; return the seconds until the next call is due."""
        if self._gone or self._is_open:
            return 60.0
        if self._wire is not None:
            left_s = self._began_s + CONNECT_TIMEOUT_S - now_s
            if left_s <= 0:
                self._broken(f"no answer within {CONNECT_TIMEOUT_S:g} s")
                return self._pause_s
            return left_s
        if not self.stream.kept_bytes:
            return 60.0
        if now_s < self._not_before_s:
            return self._not_before_s - now_s
        self._dial(now_s)
        return CONNECT_TIMEOUT_S

    def go_on(self) -> bool:
        """Send what waits, or begin a connection for it; False if there is none yet, or for now."""
        if self._is_open:
            self._guard(self._pour)
        elif self._wire is None:
            self.tick(self._links.now())
        return self._is_open or bool(self._gone)

    def close(self) -> None:
        """End the connection."""
        self._gone = self._gone or "closed"
        self._drop_wire()

    # -- connecting

    def _dial(self, now_s: float) -> None:
        address = self._links.address_of(self._node)
        if address is None:
            self._not_before_s = now_s + PAUSE_S[0]
            return
        identity = self._links.identity
        self._began_s = now_s
        self._lines, self._decoder = Lines(), frames.Decoder()
        self._greeted = self._proved = False
        self._greeting = Greeting(
            identity.cluster, identity.node, self._node, identity.incarnation,
            secrets.token_hex(handshake.NONCE_BYTES),
        )  # fmt: skip
        try:
            self._wire = Wire.dial(*address, identity.tls_client, identity.server_name)
        except OSError as error:
            self._broken(str(error))
            return
        self._links.reactor.watch(self._wire.fileno(), partial(self._guard, self._on_readable))
        self._guard(self._greet)

    def _greet(self) -> None:
        assert self._wire is not None and self._greeting is not None
        if not self._greeted:
            self._greeted = True
            self._wire.send([self._greeting.to_line()])
        else:
            self._wire.write()
        self._watch_writable()

    def _guard(self, step: Callable[[], None]) -> None:
        if self._wire is None:
            return
        try:
            step()
        except WireClosed as error:
            self._broken(str(error))
        except (Refused, frames.BadFrame) as error:
            self._broken(str(error), tell=True)
        except LinkLost as error:
            self._gone = str(error)
            self._links.complain(f"the link to node {self._node} is lost: {error}")
            self._drop_wire()

    def _broken(self, why: str, *, tell: bool = False) -> None:
        self._drop_wire()
        first_s, last_s = PAUSE_S
        self._pause_s = min(max(2 * self._pause_s, first_s), last_s)
        self._not_before_s = self._links.now() + self._pause_s
        if (tell or self._pause_s == last_s) and why != self._said:
            self._said = why
            self._links.complain(f"no connection to node {self._node}: {why}; it is tried again")

    def _drop_wire(self) -> None:
        wire, self._wire = self._wire, None
        self._is_open = self._waits_to_write = False
        if wire is not None:
            self._links.reactor.forget(wire.fileno())
            wire.close()

    # -- connected

    def _on_readable(self) -> None:
        assert self._wire is not None
        self._wire.write()
        piece = self._wire.read()
        if piece and not self._is_open:
            self._lines.feed(piece)
            self._shake_hands()
            piece = self._lines.rest() if self._is_open else b""
        for frame in self._decoder.feed(piece):
            if frame.kind != frames.ACK:
                raise frames.BadFrame(f"kind {frame.kind} on the way back")
            self.stream.acknowledge(frame.source)
        if self._is_open:
            self._pour()
        else:
            self._watch_writable()

    def _shake_hands(self) -> None:
        assert self._wire is not None and self._greeting is not None
        secret = self._links.identity.secret
        while not self._is_open and (said := self._lines.next()) is not None:
            if "error" in said:
                raise Refused(f"it says: {said['error']!s:.500}")
            if not self._proved:
                nonce = said.get("nonce")
                if not isinstance(nonce, str) or not handshake.is_proof(
                    said.get("proof"), secret, "listener", self._greeting, nonce
                ):
                    raise Refused("who answers there does not know the cluster's secret")
                answer = handshake.proof(secret, "dialer", self._greeting, nonce)
                self._wire.send([handshake.line({"proof": answer})])
                self._proved = True
            else:
                arrived = said.get("arrived")
                if type(arrived) is not int:
                    raise Refused("its last word makes no sense")
                self.stream.resume(arrived)
                self._is_open = True
                self._pause_s, self._said = 0.0, ""

    def _pour(self) -> None:
        wire = self._wire
        assert wire is not None
        if wire.wants_to_write:
            wire.write()
        while self.stream.waits and not wire.wants_to_write:
            wire.send(self.stream.take(BURST_BYTES))
        if wire.wants_to_write != self._waits_to_write:
            self._watch_writable()

    def _watch_writable(self) -> None:
        wire = self._wire
        if wire is None or wire.wants_to_write == self._waits_to_write:
            return
        self._waits_to_write = wire.wants_to_write
        callback = self._on_writable if self._waits_to_write else None
        self._links.reactor.watch_writable(wire.fileno(), callback)

    def _on_writable(self) -> None:
        self._guard(self._pour if self._is_open else self._greet)
