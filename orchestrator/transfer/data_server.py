"""Listens for direct data connections, and lets in who has a token.

A token is good for one connection within `TOKEN_LIFE_S`, of the node it was made for. Nothing is believed of
a connection before that: there is a limit on how many may be undecided, on how long they may take, and they
are read a fixed number of bytes.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading

from orchestrator.common.clock import Clock, monotonic
from orchestrator.transfer import sockets
from orchestrator.transfer.sending import Counters, Sender
from orchestrator.transfer.wire import ACCEPTED, HELLO_BYTES, TOKEN_BYTES, Hello, WireError

TOKEN_LIFE_S = 10.0
#: Tokens that nobody has used yet; more than that are of somebody who doesn't mean to.
TOKENS_MAX = 1024
HELLO_TIMEOUT_S = 5.0
#: Connections at once, each with a thread; and how many of them may not have said who they are.
CONNECTIONS_MAX = 256
UNDECIDED_MAX = 32


class Tokens:
    """Tickets for one connection each."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: until when, and of which node
        self._tokens: dict[bytes, tuple[float, int]] = {}

    def make(self, node: int) -> bytes | None:
        """Return a token; None: too many are unused."""
        now_s = self._clock()
        with self._lock:
            for token, (until_s, _) in list(self._tokens.items()):
                if until_s > now_s:
                    break  # they are in order
                del self._tokens[token]
            if len(self._tokens) >= TOKENS_MAX:
                return None
            token = secrets.token_bytes(TOKEN_BYTES)
            self._tokens[token] = (now_s + TOKEN_LIFE_S, node)
            return token

    def use(self, node: int, token: bytes) -> bool:
        """Return whether it is good; it is not, from now on."""
        with self._lock:
            # Found by its hash, which tells nobody how near a guess was; compared once more for that it costs
            # nothing.
            until_s, owner = self._tokens.pop(token, (0.0, -1))
        return until_s > self._clock() and hmac.compare_digest(
            owner.to_bytes(8, "little", signed=True), node.to_bytes(8, "little", signed=True)
        )


class DataServer:
    """A listening socket, a thread that accepts, and one for each connection."""

    def __init__(self, host: str, sender: Sender, tokens: Tokens, counters: Counters) -> None:
        self._sender = sender
        self._tokens = tokens
        self._counters = counters
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._undecided = 0
        self._closed = False
        self._acceptor = threading.Thread(target=self._accept, name="transfer-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        with self._lock:
            self._closed = True
            threads = list(self._connections.values())
            for sock in self._connections:
                sockets.hang_up(sock)
        sockets.hang_up(self._listener)  # wakes the acceptor
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                self._counters.refuse(f"a connection could not be accepted: {error.strerror}")
                threading.Event().wait(0.05)  # no descriptors left: others may give theirs back
                continue
            with self._lock:
                full = len(self._connections) >= CONNECTIONS_MAX or self._undecided >= UNDECIDED_MAX
                if full or self._closed:
                    self._counters.refuse("too many connections")
                    sock.close()
                    continue
                self._undecided += 1
                thread = threading.Thread(target=self._serve, args=(sock,), name="transfer-send", daemon=True)
                self._connections[sock] = thread
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        peer, decided = "somebody", False
        try:
            host, port, *_ = sock.getpeername()
            peer = f"{host}:{port}"
            sockets.prepare(sock)
            sockets.set_timeout(sock, HELLO_TIMEOUT_S)
            node = self._greet(sock)
            with self._lock:
                self._undecided -= 1
            decided = True
            self._sender.serve_connection(sock, node)
        except (OSError, WireError) as error:
            if not decided:
                self._counters.refuse(f"{peer}: {error}")
        finally:
            with self._lock:
                if not decided:
                    self._undecided -= 1
                del self._connections[sock]
            sock.close()

    def _greet(self, sock: socket.socket) -> int:
        data = sockets.receive_exactly(sock, HELLO_BYTES)
        if not data:
            raise WireError("hung up without a word")
        hello = Hello.unpack(data)
        if not self._tokens.use(hello.node, hello.token):
            raise WireError(f"says to be node {hello.node}, with a token that is not good")
        sockets.send(sock, ACCEPTED)
        return hello.node
