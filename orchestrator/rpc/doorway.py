"""The one port of a head: looks at how a connection begins, and sends it where it belongs.

=================== ===============================================================
begins with         goes to
=================== ===============================================================
`ORC-JOIN/1`        the desk that takes in nodes (`joining`)
a TLS record        the gRPC server, byte for byte, over its private Unix socket
anything else       nowhere: counted, and closed
nothing for 5 s     the same
=================== ===============================================================

So a join string needs one address and a firewall one hole, and whatever a port scan or a lost browser sends
is seen, counted and dropped here, before gRPC. TLS to the gRPC server passes unopened: it verifies the
certificates of nodes itself. What it refuses is seen from outside: it closes first, having said little more
than its greeting.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from orchestrator.rpc import joining
from orchestrator.rpc.joining import JoinDesk, JoinRefused, Judged

#: First bytes must have come by then.
GREETING_TIMEOUT_S = 5.0
#: Connections that are not known to be of nodes yet.
STRANGERS_MAX = 256
#: A TLS greeting with certificates, tickets and an alert is smaller than this, an answered call larger or
#: longer.
HANDSHAKE_SIZE_MAX_BYTES = 4096
HANDSHAKE_TIME_MAX_S = 10.0
#: Complaints that are written in full; later ones are only counted.
COMPLAINTS_WRITTEN_MAX = 1000
_TLS_HANDSHAKE = 0x16


class Doorway:
    """Accepts connections until it is closed. `counts` says what came, by kind."""

    def __init__(
        self, sock: socket.socket, desk: JoinDesk, grpc_path: str, complain: Callable[[str], None]
    ) -> None:
        self._sock = sock
        self._desk = desk
        self._grpc_path = grpc_path
        self._complain = complain
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers_count = 0
        self.counts: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        port: int = self._sock.getsockname()[1]
        return port

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    sock, address = await loop.sock_accept(self._sock)
                except OSError as exc:
                    # Out of descriptors: those that are here shall live.
                    self._note("accept_failed", f"a connection could not be accepted: {exc.strerror}")
                    await asyncio.sleep(0.1)
                    continue
                peer = f"{address[0]}:{address[1]}"
                if self._strangers_count >= STRANGERS_MAX:
                    self._note(
                        "too_many",
                        f"{peer} was turned away: {STRANGERS_MAX} connections have yet to say who they are",
                    )
                    sock.close()
                    continue
                task = loop.create_task(self._serve(sock, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._sock.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def refuse(self, kind: str, text: str) -> None:
        """Note that somebody was refused elsewhere."""
        self._note(kind, text)

    def _note(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= COMPLAINTS_WRITTEN_MAX:
            self._complain(text)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        self._strangers_count += 1
        is_stranger = True
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            greeting = await self._greeting(sock)
            if greeting[:1] and greeting[0] == _TLS_HANDSHAKE:
                self._strangers_count -= 1
                is_stranger = False
                await self._splice(sock, greeting, peer)
            elif greeting == joining.PREFACE:
                await self._take_in(sock, peer)
            elif greeting:
                shown = greeting[:40]
                self._note("garbage", f"{peer} sent {shown!r}, which is no TLS: dropped")
            else:
                self._note(
                    "silent", f"{peer} connected and left without a word (a port scan, or a health check)"
                )
        except (TimeoutError, asyncio.TimeoutError):
            self._note("silent", f"{peer} said nothing for {GREETING_TIMEOUT_S:g} s: dropped")
        except OSError as exc:
            self._note("broken", f"the connection to {peer} broke: {exc}")
        finally:
            if is_stranger:
                self._strangers_count -= 1
            sock.close()

    async def _greeting(self, sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()

        async def read() -> bytes:
            data = b""
            # Only as much as the preface has: what follows it belongs to TLS.
            while len(data) < len(joining.PREFACE):
                piece = await loop.sock_recv(sock, len(joining.PREFACE) - len(data))
                data += piece
                if not piece or data[0] == _TLS_HANDSHAKE or not joining.PREFACE.startswith(data):
                    break
            return data

        return await asyncio.wait_for(read(), GREETING_TIMEOUT_S)

    async def _take_in(self, sock: socket.socket, peer: str) -> None:
        writer: asyncio.StreamWriter | None = None

        async def take_in() -> str:
            nonlocal writer
            reader, writer = await joining.streams_over(sock, self._desk.context, server_side=True)
            return await self._desk.serve(reader, writer)

        try:
            node_id = await asyncio.wait_for(take_in(), joining.JOIN_TIMEOUT_S)
            self.counts["joined"] += 1
            self._complain(f"{peer} joined as node {node_id}")
        except Judged as exc:
            if str(exc):
                self._note("certificate_refused", f"{peer} has a certificate that is of no use here: {exc}")
        except JoinRefused as exc:
            self._note("join_refused", f"{peer} was refused: {exc}")
        except (TimeoutError, asyncio.TimeoutError):
            self._note(
                "join_broken", f"{peer} began to join and did not finish within {joining.JOIN_TIMEOUT_S:g} s"
            )
        except (OSError, EOFError, ValueError, ssl.SSLError) as exc:
            self._note("join_broken", f"{peer} began to join and broke off: {exc}")
        finally:
            if writer is not None:
                await joining.end_streams(writer)

    async def _splice(self, sock: socket.socket, greeting: bytes, peer: str) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        inner = _End()
        outer = _End()
        inner.other, outer.other = outer, inner
        try:
            await loop.create_unix_connection(lambda: inner, self._grpc_path)
        except OSError as exc:
            self._note("unavailable", f"{peer} came while the head was not serving: {exc}")
            return
        inner.write(greeting)
        try:
            await loop.connect_accepted_socket(lambda: outer, sock)
            await asyncio.gather(inner.closed, outer.closed)
        finally:
            inner.close()
            outer.close()
        brief = (
            loop.time() - began_s < HANDSHAKE_TIME_MAX_S and inner.received_bytes < HANDSHAKE_SIZE_MAX_BYTES
        )
        if inner.closed_first and brief:
            self._note(
                "tls_refused",
                f"{peer} was refused in the TLS handshake: it has no certificate of this cluster, or an "
                "expired one",
            )


class _End(asyncio.Protocol):
    """One end of a splice: what comes here goes out there, no faster than there takes it."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self.received_bytes = 0
        self.closed_first = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._backlog = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._backlog:
            transport.write(self._backlog)
            self._backlog = b""

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        assert self.other is not None
        self.other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._backlog += data
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other is not None:
            self.closed_first = not self.other.closed_first
            self.other.close()

    def close(self) -> None:
        """Send what is to be sent, and close."""
        if self._transport is not None:
            self._transport.close()
        elif not self.closed.done():
            self.closed.set_result(None)
