"""To listen on an address, or to say in a sentence why that cannot be."""

from __future__ import annotations

import errno
import socket


class AddressTakenError(OSError):
    """Somebody listens there already; the text says what to do."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        AddressTakenError: somebody else listens there.
        OSError: it is no address of this machine.
    """
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # Only for ports in TIME_WAIT: two listeners still exclude each other.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(512)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise AddressTakenError(
                f"port {port} of {host or 'this machine'} is taken: another head, or another program, "
                "listens there; stop it, or choose another port with --port"
            ) from None
        raise OSError(exc.errno, f"cannot listen on {host}:{port}: {exc.strerror}") from None
    return sock
