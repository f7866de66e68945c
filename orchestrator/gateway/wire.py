"""A non-blocking connection, with TLS or without, behind one face."""

from __future__ import annotations

import errno
import socket
import ssl
from collections import deque

#: What one call reads at most: large enough that a busy link costs few calls, and that nothing stays behind
#: of a TLS record (of 16 KiB at most), decrypted, of which no descriptor would tell.
READ_BYTES = 64 * 1024
#: What one call writes at most.
WRITE_BYTES = 256 * 1024

_AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class WireClosed(OSError):
    """The connection is over: closed by the other end, reset, or refused."""


class Wire:
    """One TCP connection. All methods return at once.

    Args:
        sock: connected, or about to be (`connecting`).
        tls: the context of a TLS connection; None for one in the clear.
        server_name: of the certificate that the other end must show; None on the listening side.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        *,
        server_name: str | None = None,
        connecting: bool = False,
    ) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._tls = tls
        self._server_name = server_name
        self._connecting = connecting
        #: TLS is agreed on, or there is none.
        self._agreed = tls is None
        #: Connected, and agreed on TLS.
        self._is_ready = False
        self._unsent: deque[memoryview] = deque()
        #: Whether `write` has something to do as soon as the descriptor is writable.
        self.wants_to_write = True

    @classmethod
    def dial(cls, host: str, port: int, tls: ssl.SSLContext | None, server_name: str) -> Wire:
        """Begin a connection.

        Raises:
            OSError: the host has no address, or nobody listens there.
        """
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, f"{errno.errorcode.get(code, code)} from {host}:{port}")
            return cls(sock, tls, server_name=server_name, connecting=True)
        except BaseException:
            sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._sock.fileno()

    @property
    def unsent_bytes(self) -> int:
        """What the kernel hasn't taken yet."""
        return sum(map(len, self._unsent))

    def send(self, pieces: list[bytes]) -> None:
        """Write what fits now; the rest waits for `write`."""
        if not pieces:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        sent = 0
        if not self.wants_to_write and len(data) <= WRITE_BYTES:
            try:
                sent = self._sock.send(data)
            except _AGAIN:
                pass
            except OSError as error:
                raise WireClosed(str(error)) from None
            if sent == len(data):
                return
        self._unsent.append(memoryview(data)[sent:])
        self.write()

    def write(self) -> None:
        """Go on with what waits: connecting, agreeing on TLS, bytes.

        Raises:
            WireClosed: it is over.
        """
        unsent = self._unsent
        self.wants_to_write = True
        try:
            if not self._is_ready and not self._make_ready():
                return
            while unsent:
                piece = unsent[0]
                sent = self._sock.send(piece[:WRITE_BYTES])
                if sent == len(piece):
                    unsent.popleft()
                else:
                    unsent[0] = piece[sent:]
        except _AGAIN:
            return
        except OSError as error:
            raise WireClosed(str(error)) from None
        self.wants_to_write = False

    def read(self) -> bytes:
        """Return what has arrived; empty if nothing has.

        Raises:
            WireClosed: it is over.
        """
        try:
            if not self._is_ready and not self._make_ready():
                return b""
            piece = self._sock.recv(READ_BYTES)
        except _AGAIN:
            return b""
        except OSError as error:
            raise WireClosed(str(error)) from None
        if not piece:
            raise WireClosed("closed by the other end")
        return piece

    def _make_ready(self) -> bool:
        """Go on with connecting and agreeing on TLS; True when both are done."""
        if self._connecting:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, errno.errorcode.get(code, str(code)))
            try:
                self._sock.getpeername()
            except OSError:
                return False
            self._connecting = False
        if not self._agreed:
            assert self._tls is not None
            if not isinstance(self._sock, ssl.SSLSocket):
                self._sock = self._tls.wrap_socket(
                    self._sock,
                    server_side=self._server_name is None,
                    server_hostname=self._server_name,
                    do_handshake_on_connect=False,
                )
            self._sock.do_handshake()
            self._agreed = True
        self._is_ready = True
        self.wants_to_write = bool(self._unsent)
        return True

    def close(self) -> None:
        """End the connection. The descriptor must not be watched any more."""
        self._sock.close()
