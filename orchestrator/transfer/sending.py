"""Sends objects: whose turn it is, and out of the arena into a connection or a gRPC stream."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.transfer import sockets
from orchestrator.transfer.chunks import CHUNK_BYTES, pack_chunk
from orchestrator.transfer.landing import LandingGone
from orchestrator.transfer.outgoing import Library, Outgoing
from orchestrator.transfer.push_manager import (
    Instruction,
    PeerDied,
    PushManager,
    RefuseSend,
    SendEnded,
    SendWanted,
    StartSend,
)
from orchestrator.transfer.wire import CONFIRMED, RECEIVED, REQUEST_BYTES, Answer, Request, Status, WireError

#: How long a connection without a request stays open.
IDLE_TIMEOUT_S = 120.0
#: How long a request waits for its turn before the asker is told to come back.
TURN_TIMEOUT_S = 5.0


class Busy(Exception):
    """It is not this request's turn, and will not be for a while."""


class _Send:
    """One send that waits or is under way."""

    def __init__(self, peer: int, object_id: bytes) -> None:
        self.peer = peer
        self.object_id = object_id
        self.decided = threading.Event()
        self.refusal: str | None = None
        #: ends it from another thread
        self.stop: Callable[[], None] | None = None


class Counters:
    """What happened so far; read by anybody, exact enough without a lock."""

    def __init__(self) -> None:
        self.sends = 0
        self.bytes_sent = 0
        #: connections and requests that were refused for what they said
        self.refused = 0
        self.last_refusal = ""

    def refuse(self, why: str) -> None:
        """Count somebody who is not served."""
        self.refused += 1
        self.last_refusal = why


class Sender:
    """Serves requests. Each is served in the thread that brings it, when it is its turn."""

    def __init__(self, library: Library, counters: Counters, turns: PushManager | None = None) -> None:
        self._library = library
        self._counters = counters
        self._turns = turns or PushManager()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._sends: dict[int, _Send] = {}
        self._closed = False

    # ------------------------------------------------------------ turns

    @contextmanager
    def _turn(self, peer: int, object_id: bytes, size_bytes: int, stop: Callable[[], None]) -> Iterator[None]:
        send, number = _Send(peer, object_id), next(self._numbers)
        send.stop = stop
        with self._lock:
            if self._closed:
                raise Busy("this node is leaving")
            self._sends[number] = send
            self._perform(self._turns.handle(SendWanted(number, peer, size_bytes)))
        try:
            if not send.decided.wait(TURN_TIMEOUT_S):
                raise Busy(f"others are being sent to for more than {TURN_TIMEOUT_S:g} s")
            if send.refusal is not None:
                raise Busy(send.refusal)
            yield
        finally:
            with self._lock:
                del self._sends[number]
                self._perform(self._turns.handle(SendEnded(number)))

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            send = self._sends.get(instruction.send)
            if send is None:
                continue
            if isinstance(instruction, RefuseSend):
                send.refusal = instruction.why
            else:
                assert isinstance(instruction, StartSend)
            send.decided.set()

    def cancel(self, peer: int, object_id: bytes) -> int:
        """End what is being sent of an object to a peer. Returns how many sends that were."""
        with self._lock:
            ended = [
                send for send in self._sends.values() if send.peer == peer and send.object_id == object_id
            ]
        self._stop(ended)
        return len(ended)

    def node_died(self, node: int) -> None:
        """End what is being sent to a node."""
        with self._lock:
            self._perform(self._turns.handle(PeerDied(node)))
            ended = [send for send in self._sends.values() if send.peer == node]
        self._stop(ended)

    def close(self) -> None:
        """End everything, and begin nothing more."""
        with self._lock:
            self._closed = True
            ended = list(self._sends.values())
        self._stop(ended)

    @staticmethod
    def _stop(sends: list[_Send]) -> None:
        for send in sends:
            send.refusal = "it was cancelled"
            send.decided.set()
            if send.stop is not None:
                send.stop()

    # ------------------------------------------------------------ direct connections

    def serve_connection(self, sock: socket.socket, peer: int) -> None:
        """Answer requests until the peer hangs up, or sends nonsense."""
        while True:
            sockets.set_timeout(sock, IDLE_TIMEOUT_S)
            data = sockets.receive_exactly(sock, REQUEST_BYTES)
            if not data:
                return
            sockets.set_timeout(sock, sockets.STALL_TIMEOUT_S)
            try:
                request = Request.unpack(data)
            except WireError as error:
                self._counters.refuse(f"node {peer}: {error}")
                return
            if not self._serve_request(sock, peer, request):
                return

    def _serve_request(self, sock: socket.socket, peer: int, request: Request) -> bool:
        """False: the connection is of no use any more."""
        outgoing = self._library.open(request.object_id)
        if outgoing is None:
            sockets.send(sock, Answer(Status.ABSENT, 0).pack())
            return True
        try:
            rest = max(0, outgoing.size_bytes - request.offset)
            with self._turn(peer, request.object_id, rest, lambda: sockets.hang_up(sock)):
                answer = outgoing.answer(request)
                sockets.send(sock, answer.pack())
                if answer.status is Status.OK:
                    self._send_rest(sock, outgoing, request.offset)
                    return self._confirm(sock, outgoing)
        except Busy:
            sockets.send(sock, Answer(Status.BUSY, outgoing.size_bytes).pack())
        except LandingGone:
            return False
        finally:
            outgoing.release()
        return True

    def _send_rest(self, sock: socket.socket, outgoing: Outgoing, offset: int) -> None:
        self._counters.sends += 1
        copies = outgoing.file_offset is None or sockets.is_local(sock)
        while offset < outgoing.size_bytes:
            end = outgoing.wait_beyond(offset)
            if copies:
                end = min(end, offset + sockets.STRETCH_BYTES)
                sockets.send(sock, outgoing.view[offset:end])
            else:
                assert outgoing.file_offset is not None
                file = self._library.store.file
                sockets.send_from_file(sock, file, outgoing.file_offset + offset, end - offset)
            self._counters.bytes_sent += end - offset
            offset = end

    @staticmethod
    def _confirm(sock: socket.socket, outgoing: Outgoing) -> bool:
        """Hold the object until its bytes have been read at the other end, and say so."""
        if sockets.receive_exactly(sock, len(RECEIVED)) != RECEIVED:
            return False
        outgoing.wait_beyond(outgoing.size_bytes)  # raises if it began anew meanwhile
        sockets.send(sock, CONFIRMED)
        return True

    # ------------------------------------------------------------ gRPC streams

    def stream(
        self, peer: int, request: Request, stop: Callable[[], None], head: Callable[[Answer], bool]
    ) -> Iterator[bytes]:
        """Yield chunks. `head` is told the answer first, and says whether bytes are to follow."""
        outgoing = self._library.open(request.object_id)
        if outgoing is None:
            head(Answer(Status.ABSENT, 0))
            return
        try:
            offset, size = request.offset, outgoing.size_bytes
            with self._turn(peer, request.object_id, max(0, size - offset), stop):
                answer = outgoing.answer(request)
                if not head(answer):
                    return
                self._counters.sends += 1
                while offset < size:
                    end = min(outgoing.wait_beyond(offset), offset + CHUNK_BYTES)
                    yield pack_chunk(offset, outgoing.view[offset:end])
                    self._counters.bytes_sent += end - offset
                    offset = end
        except Busy:
            head(Answer(Status.BUSY, outgoing.size_bytes))
        finally:
            outgoing.release()
