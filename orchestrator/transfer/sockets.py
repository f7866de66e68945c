"""What both ends of a data connection do with their sockets.

They are blocking, with time limits of the kernel's (`SO_RCVTIMEO`), so that one `sendfile` or `recv` moves a
megabyte; Python's own limits would make the socket non-blocking, and poll before each call.
"""

from __future__ import annotations

import os
import socket
import struct

#: Silence after which the other end of a transfer counts as gone.
STALL_TIMEOUT_S = 30.0
#: How much is sent by one call.
STRETCH_BYTES = 1 << 20
#: How much is received by one call, and passed on after it: less than a core's own cache has, with which it
#: goes a fifth faster than with a megabyte.
RECEIVED_BYTES = 256 * 1024


class ConnectionBroken(OSError):
    """The other end hung up, is gone, or was silent for too long."""


def set_timeout(sock: socket.socket, seconds: float) -> None:
    """Have calls on `sock` give up after so much silence."""
    sock.setblocking(True)
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def prepare(sock: socket.socket) -> None:
    """Set what every data connection has."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that is gone sends no reset: unacknowledged bytes end the connection, too.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_TIMEOUT_S * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def receive_exactly(sock: socket.socket, size_bytes: int) -> bytes:
    """Return so many bytes; b"" if the other end hung up before the first.

    Raises:
        ConnectionBroken: it hung up in the middle, or says nothing.
    """
    data = bytearray(size_bytes)
    view, at = memoryview(data), 0
    while at < size_bytes:
        count = receive_into(sock, view[at:])
        if not count:
            if not at:
                return b""
            raise ConnectionBroken(f"the connection ended after {at} of {size_bytes} bytes")
        at += count
    return bytes(data)


def receive_into(sock: socket.socket, view: memoryview) -> int:
    """Receive `RECEIVED_BYTES` at most into `view`; 0: the other end hung up. Raises ConnectionBroken."""
    part = view[:RECEIVED_BYTES]
    try:
        return sock.recv_into(part, part.nbytes, socket.MSG_WAITALL)
    except (BlockingIOError, TimeoutError):
        raise ConnectionBroken("the other end is silent") from None
    except OSError as error:
        raise ConnectionBroken(error.strerror or str(error)) from None


def send(sock: socket.socket, data: bytes | memoryview) -> None:
    """Send all. Raises ConnectionBroken."""
    try:
        sock.sendall(data)
    except (BlockingIOError, TimeoutError):
        raise ConnectionBroken("the other end takes nothing") from None
    except OSError as error:
        raise ConnectionBroken(error.strerror or str(error)) from None


def send_from_file(sock: socket.socket, file: int, offset: int, size_bytes: int) -> None:
    """Send bytes of a file, from the kernel's pages to the network without a copy.

    Raises ConnectionBroken.
    """
    end = offset + size_bytes
    try:
        while offset < end:
            count = os.sendfile(sock.fileno(), file, offset, end - offset)
            if not count:
                raise ConnectionBroken("the segment's file is shorter than it was")
            offset += count
    except BlockingIOError:
        raise ConnectionBroken("the other end takes nothing") from None
    except ConnectionBroken:
        raise
    except OSError as error:
        raise ConnectionBroken(error.strerror or str(error)) from None


def is_local(sock: socket.socket) -> bool:
    """Tell whether the other end is on this machine.

    Nothing is gained there by having the kernel send from a file's pages: somebody copies the bytes in any
    case, and does so faster from where they are in one piece than page by page.
    """
    try:
        return bool(sock.getpeername()[0] == sock.getsockname()[0])
    except OSError:
        return False  # whoever uses it next will hear what is wrong with it


def hang_up(sock: socket.socket) -> None:
    """End a connection, also under a thread that waits in it; whoever uses it closes it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
