"""Carries out the attempts that the pull manager wants: asks nodes, and receives their bytes into landings.

Each attempt runs in a thread of its own from start to end, and ends soon after it was stopped. Bytes come
over a direct connection if the source offers that, else, or if none can be had, in gRPC chunks.
"""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.common.clock import Clock, monotonic
from orchestrator.transfer import sockets
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.chunks import unpack_chunk
from orchestrator.transfer.events import End
from orchestrator.transfer.landing import Landing
from orchestrator.transfer.objects_client import END_OF_CODE, Peer, Peers, size_in
from orchestrator.transfer.quiet_grpc import grpc
from orchestrator.transfer.security import Security
from orchestrator.transfer.sockets import ConnectionBroken
from orchestrator.transfer.warming import warmed
from orchestrator.transfer.wire import (
    ACCEPTED,
    ANSWER_BYTES,
    CONFIRMED,
    END_OF,
    RECEIVED,
    Answer,
    Hello,
    Request,
    Status,
    WireError,
)

CONNECT_TIMEOUT_S = 5.0
#: Idle connections kept for each node.
IDLE_MAX = 4
#: After a node's direct connections could not be had, chunks are used for so long.
DIRECT_RETRY_S = 60.0


class Outcome(NamedTuple):
    """How an attempt ended; see `events.AttemptEnded`."""

    end: End
    size_bytes: int | None
    why: str


class Attempt:
    """One attempt, as far as other threads are concerned."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._stopper: Callable[[], object] | None = None
        self.stopped = False
        #: when the last bytes came
        self.moved_at_s = now_s

    def stop(self) -> None:
        """Have it end soon."""
        with self._lock:
            self.stopped = True
            if self._stopper is not None:
                self._stopper()

    def stoppable_by(self, stopper: Callable[[], object] | None) -> None:
        """Say how it is ended from now on; at once if that is what was wanted meanwhile."""
        with self._lock:
            self._stopper = stopper
            if self.stopped and stopper is not None:
                stopper()


class Fetcher:
    """Asks and fetches; its methods are called from many threads."""

    def __init__(self, own_node: Callable[[], int], security: Security, clock: Clock = monotonic) -> None:
        self._own_node = own_node
        self._peers = Peers(own_node, security)
        self._direct = security.direct
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[int, list[socket.socket]] = {}
        #: nodes whose direct connections could not be had, and until when they are not tried
        self._chunks_until_s: dict[int, float] = {}
        self._closed = False
        #: how many bytes came on which way; exact enough
        self.bytes_direct = 0
        self.bytes_in_chunks = 0

    # ------------------------------------------------------------ questions

    def ask(self, address: NodeAddress, object_id: bytes) -> Outcome:
        """How large is an object?"""
        try:
            complete, size_bytes = self._peers.get(address).locate(object_id)
        except grpc.RpcError as error:
            return _outcome_of(error, None)
        except (WireError, ValueError) as error:
            return Outcome(End.WRONG, None, str(error))
        if size_bytes is None:
            return Outcome(End.ABSENT, None, "it doesn't have it")
        del complete
        return Outcome(End.COMPLETE, size_bytes, "")

    # ------------------------------------------------------------ bytes

    def fetch(self, address: NodeAddress, landing: Landing, attempt: Attempt) -> Outcome:
        """Receive what is missing of a landing."""
        offset = landing.received_bytes
        prefix_crc = zlib.crc32(landing.view[:offset]) if offset else 0
        request = Request(landing.object_id, offset, landing.size_bytes, prefix_crc)
        try:
            peer = self._peers.get(address)
            sock, fresh = self._take(peer, attempt)
            with warmed(landing):
                if sock is not None:
                    return self._fetch_direct(peer, sock, fresh, request, landing, attempt)
                return self._fetch_chunks(peer, request, landing, attempt)
        except ConnectionBroken as error:
            return Outcome(End.BROKEN, None, str(error))
        except grpc.RpcError as error:
            return _outcome_of(error, None)
        except (WireError, ValueError) as error:
            # gRPC's channels raise ValueError when they are closed meanwhile.
            return Outcome(End.BROKEN if attempt.stopped else End.WRONG, None, str(error))
        finally:
            attempt.stoppable_by(None)

    def _fetch_direct(
        self,
        peer: Peer,
        sock: socket.socket,
        fresh: bool,
        request: Request,
        landing: Landing,
        attempt: Attempt,
    ) -> Outcome:
        keep = False
        try:
            attempt.stoppable_by(lambda: sockets.hang_up(sock))
            data = b""
            try:
                sockets.send(sock, request.pack())
                data = sockets.receive_exactly(sock, ANSWER_BYTES)
            except ConnectionBroken:
                if fresh:
                    raise
            if not data:
                if not fresh and not attempt.stopped:
                    # It had been idle for too long, and was closed.
                    attempt.stoppable_by(None)
                    self._drop_idle(peer.address.node)
                    again, _ = self._take(peer, attempt)
                    if again is None:
                        return self._fetch_chunks(peer, request, landing, attempt)
                    return self._fetch_direct(peer, again, True, request, landing, attempt)
                raise ConnectionBroken("it hung up")
            answer = Answer.unpack(data)
            if answer.status is not Status.OK:
                keep = True
                return Outcome(END_OF[answer.status], answer.size_bytes or None, answer.status.name.lower())
            if answer.size_bytes != landing.size_bytes:
                return Outcome(End.WRONG, answer.size_bytes, f"has {answer.size_bytes} bytes of it")
            self._receive(sock, landing, attempt)
            keep = True
            return Outcome(End.COMPLETE, answer.size_bytes, "")
        finally:
            attempt.stoppable_by(None)
            self._give_back(peer.address.node, sock, keep and not attempt.stopped)

    def _receive(self, sock: socket.socket, landing: Landing, attempt: Attempt) -> None:
        view, at, size = landing.view, landing.received_bytes, landing.size_bytes
        while at < size:
            count = sockets.receive_into(sock, view[at:])
            if not count:
                raise ConnectionBroken(f"it hung up after {at} of {size} bytes")
            at += count
            if at < size:
                landing.advance(at)
            attempt.moved_at_s = self._clock()
            self.bytes_direct += count
        sockets.send(sock, RECEIVED)
        if sockets.receive_exactly(sock, len(CONFIRMED)) != CONFIRMED:
            raise ConnectionBroken("it hung up before it had confirmed what it sent")
        landing.advance(size)

    def _fetch_chunks(self, peer: Peer, request: Request, landing: Landing, attempt: Attempt) -> Outcome:
        call = peer.pull(request)
        attempt.stoppable_by(call.cancel)
        size_bytes = None
        try:
            size_bytes = size_in(call.initial_metadata())
            view, at, size = landing.view, landing.received_bytes, landing.size_bytes
            for message in call:
                offset, data = unpack_chunk(message)
                if size_bytes != size or offset != at or at + data.nbytes > size:
                    return Outcome(
                        End.WRONG,
                        size_bytes,
                        f"sent {data.nbytes} bytes for {offset} where {at} of {size} was due",
                    )
                view[at : at + data.nbytes] = data
                at += data.nbytes
                landing.advance(at)
                attempt.moved_at_s = self._clock()
                self.bytes_in_chunks += data.nbytes
            if at < size:
                return Outcome(End.BROKEN, size_bytes, f"it ended after {at} of {size} bytes")
            return Outcome(End.COMPLETE, size_bytes, "")
        except grpc.RpcError as error:
            return _outcome_of(error, size_bytes)
        finally:
            call.cancel()

    # ------------------------------------------------------------ connections

    def _take(self, peer: Peer, attempt: Attempt) -> tuple[socket.socket | None, bool]:
        """Return (a direct connection, whether it is new); None: chunks have to do."""
        if not self._direct:
            return None, False
        node = peer.address.node
        with self._lock:
            if idle := self._idle.get(node):
                return idle.pop(), False
            if self._chunks_until_s.get(node, 0.0) > self._clock():
                return None, False
        port, token = peer.open_data()
        if not port:
            self._use_chunks(node)
            return None, False
        try:
            return self._connect(peer.address.host, port, token, attempt), True
        except OSError:
            # A firewall may let through one port only. If the node is dead, chunks will say so.
            self._use_chunks(node)
            return None, False

    def _connect(self, host: str, port: int, token: bytes, attempt: Attempt) -> socket.socket:
        sock = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        try:
            attempt.stoppable_by(lambda: sockets.hang_up(sock))
            sockets.prepare(sock)
            sockets.set_timeout(sock, sockets.STALL_TIMEOUT_S)
            sockets.send(sock, Hello(self._own_node(), token).pack())
            if sockets.receive_exactly(sock, len(ACCEPTED)) != ACCEPTED:
                raise ConnectionBroken("the token was refused")
            return sock
        except BaseException:
            sock.close()
            raise

    def _use_chunks(self, node: int) -> None:
        with self._lock:
            self._chunks_until_s[node] = self._clock() + DIRECT_RETRY_S

    def _give_back(self, node: int, sock: socket.socket, keep: bool) -> None:
        if keep:
            with self._lock:
                idle = self._idle.setdefault(node, [])
                if not self._closed and len(idle) < IDLE_MAX:
                    idle.append(sock)
                    return
        sock.close()

    def _drop_idle(self, node: int) -> None:
        with self._lock:
            idle = self._idle.pop(node, [])
        for sock in idle:
            sock.close()

    def node_died(self, node: int) -> None:
        """Let go of what leads to a dead node."""
        self._drop_idle(node)
        self._peers.forget(node)
        with self._lock:
            self._chunks_until_s.pop(node, None)

    def close(self) -> None:
        """Close all connections: attempts that are under way end, and none begins."""
        with self._lock:
            self._closed = True
        for node in list(self._idle):
            self._drop_idle(node)
        self._peers.close()


def _outcome_of(error: grpc.RpcError, size_bytes: int | None) -> Outcome:
    # A call that ends badly is itself the exception, and a variable of the frames in its traceback: as long
    # as that ring is there, so is the object's unfinished memory, and nobody can begin it anew.
    error.__traceback__ = None
    code = error.code() if isinstance(error, grpc.Call) else None
    end = END_OF_CODE.get(code, End.BROKEN)
    details = (error.details() or "") if isinstance(error, grpc.Call) else str(error)
    return Outcome(end, size_bytes, f"{code.name if code is not None else 'no status'}: {details}"[:300])
