"""A connection that another node has begun: who it is, the frames that come on it, what is acknowledged."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.gateway import frames, handshake
from orchestrator.gateway.handshake import Greeting, Lines, Refused
from orchestrator.gateway.wire import Wire, WireClosed

if TYPE_CHECKING:
    from orchestrator.gateway.link import Links
    from orchestrator.gateway.stream import Incoming


class Answerer:
    """A connection that somebody else has begun."""

    def __init__(self, links: Links, sock: socket.socket) -> None:
        self._links = links
        self._wire = Wire(sock, links.identity.tls_server)
        self._lines = Lines()
        self._decoder = frames.Decoder()
        self._greeting: Greeting | None = None
        self._nonce = secrets.token_hex(handshake.NONCE_BYTES)
        self._incoming: Incoming | None = None
        self._closed = False
        self._waits_to_write = False
        links.reactor.watch(self._wire.fileno(), partial(self._guard, self._on_readable))

    def _guard(self, step: Callable[[], bool | None]) -> bool | None:
        if self._closed:
            return None
        try:
            return step()
        except WireClosed:
            self.close()
        except (Refused, frames.BadFrame) as error:
            self.refuse(str(error))
        return None

    def refuse(self, why: str) -> None:
        """Say why, and close."""
        who = f"node {self._greeting.node}" if self._greeting is not None else "a stranger"
        self._links.refused_count += 1
        self._links.complain(f"a connection of {who} is refused: {why}")
        try:
            self._wire.send([handshake.line({"error": why})])
        except WireClosed:
            pass
        self.close()

    def close(self) -> None:
        """End the connection."""
        if not self._closed:
            self._closed = True
            self._links.leave(self)
            self._links.reactor.forget(self._wire.fileno())
            self._wire.close()

    def _on_readable(self) -> bool:
        """Take what has come; True if it was only passed on."""
        if self._wire.wants_to_write:
            self._wire.write()
        piece = self._wire.read()
        incoming = self._incoming
        carried = incoming is not None
        if piece and incoming is None:
            self._lines.feed(piece)
            self._shake_hands()
            incoming = self._incoming
            piece = self._lines.rest() if incoming is not None else b""
        if incoming is not None:
            assert self._greeting is not None
            node, on_frame = self._greeting.node, self._links.on_frame
            for frame in self._decoder.feed(piece):
                incoming.frame(frames.HEAD_BYTES + len(frame.payload))
                if not on_frame(node, frame):
                    carried = False
            if self._closed:
                return False
            count = incoming.ack_due(pausing=False)
            if count is not None:
                self._acknowledge(count)
            elif incoming.is_ack_owed and self._links.acknowledge_later(self):
                carried = False  # there is a time to look at
        if self._wire.wants_to_write != self._waits_to_write:
            self._watch_writable()
        return carried

    def acknowledge(self) -> None:
        """Say how much has arrived, as nothing more has come for a while."""
        self._guard(self._acknowledge_all)

    def _acknowledge_all(self) -> None:
        count = self._incoming.ack_due(pausing=True) if self._incoming is not None else None
        if count is not None:
            self._acknowledge(count)
            self._watch_writable()

    def _acknowledge(self, count: int) -> None:
        self._links.acknowledged(self)
        self._wire.send([frames.ack(count)])

    def _watch_writable(self) -> None:
        if not self._closed and self._wire.wants_to_write != self._waits_to_write:
            self._waits_to_write = not self._waits_to_write
            callback = self._on_writable if self._waits_to_write else None
            self._links.reactor.watch_writable(self._wire.fileno(), callback)

    def _on_writable(self) -> None:
        self._guard(self._go_on)

    def _go_on(self) -> None:
        self._wire.write()
        self._watch_writable()

    def _shake_hands(self) -> None:
        identity = self._links.identity
        while self._incoming is None and (said := self._lines.next()) is not None:
            if self._greeting is None:
                greeting = Greeting.from_line(said)
                if greeting.cluster != identity.cluster:
                    raise Refused("it is of another cluster")
                if greeting.to != identity.node:
                    raise Refused(f"it looks for node {greeting.to}, this is node {identity.node}")
                self._greeting = greeting
                proof = handshake.proof(identity.secret, "listener", greeting, self._nonce)
                self._wire.send([handshake.line({"nonce": self._nonce, "proof": proof})])
            elif not handshake.is_proof(
                said.get("proof"), identity.secret, "dialer", self._greeting, self._nonce
            ):
                raise Refused("it does not know the cluster's secret")
            else:
                self._incoming = self._links.admit(self, self._greeting)
                self._wire.send([handshake.line({"arrived": self._incoming.arrived})])
