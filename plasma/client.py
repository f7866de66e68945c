"""The way into somebody else's store: :func:`connect`, the caller's side of ``server``."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
import weakref
from pathlib import Path

from plasma.errors import LayoutVersionError, NotAStoreError
from plasma.server import HELLO, MAGIC, PROTOCOL_VERSION, Verdict, address_of
from plasma.store import Store

__all__ = ["connect"]

#: between two attempts at a server whose backlog is full
_RETRY_S = 0.005


def connect(path: str | os.PathLike[str], timeout_s: float = 5.0) -> Store:
    """The store that is served at ``path``, attached to this process.

    ``path`` is a server's socket; or a file that is a store's memory, such as ``/proc/PID/fd/N`` of its
    creator.

    Raises :class:`NotAStoreError` if nothing is there, nobody answers in ``timeout_s`` seconds, or what
    answers is no store of this user; :class:`LayoutVersionError` if it is one of another version.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotAStoreError(f"no store at {path}: {error.strerror}") from error
    if stat.S_ISSOCK(mode):
        return _connect_to_socket(path, time.monotonic() + timeout_s)
    if not stat.S_ISREG(mode):
        raise NotAStoreError(f"no store at {path}: it is neither a socket nor a file")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NotAStoreError(f"no store at {path}: {error.strerror}") from error
    try:
        return Store.attach(fd)
    except NotAStoreError as error:
        raise type(error)(f"no store at {path}: {error}") from None
    finally:
        os.close(fd)


def _connect_to_socket(path: Path, deadline: float) -> Store:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            _dial(sock, path, deadline)
            fd = _shake_hands(sock, path, deadline)
        except OSError as error:
            why = "nobody answered in time" if isinstance(error, TimeoutError) else error.strerror
            raise NotAStoreError(f"no store at {path}: {why}") from error
        try:
            store = Store.attach(fd)
        finally:
            os.close(fd)
    except BaseException:
        sock.close()
        raise
    # The server takes the end of the connection for the client's death: it must last as long as the store
    # does.
    sock.setblocking(False)
    weakref.finalize(store, sock.close)
    return store


def _dial(sock: socket.socket, path: Path, deadline: float) -> None:
    with address_of(path) as address:
        while True:
            sock.settimeout(_left_s(deadline))
            try:
                return sock.connect(address)
            except BlockingIOError:  # the backlog is full: others are being served
                time.sleep(_RETRY_S)


def _shake_hands(sock: socket.socket, path: Path, deadline: float) -> int:
    """The store's descriptor, out of the server's answer."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (os.getuid(), 0):
        raise NotAStoreError(f"no store of yours at {path}: user {uid} is listening there")
    sock.settimeout(_left_s(deadline))
    sock.sendall(HELLO.pack(MAGIC, PROTOCOL_VERSION, 0))
    answer, fds = b"", []
    try:
        while len(answer) < HELLO.size:
            sock.settimeout(_left_s(deadline))
            data, more_fds, _, _ = socket.recv_fds(sock, HELLO.size - len(answer), 4, socket.MSG_CMSG_CLOEXEC)
            fds += more_fds
            answer += data
            if not data:
                raise NotAStoreError(f"no store at {path}: the other end hung up")
        return _judge(answer, fds, path)
    finally:
        for fd in fds:
            os.close(fd)


def _judge(answer: bytes, fds: list[int], path: Path) -> int:
    """Check the answer and take the descriptor out of ``fds``."""
    magic, version, verdict = HELLO.unpack(answer)
    if magic != MAGIC:
        raise NotAStoreError(f"no store at {path}: something else is listening there")
    if version != PROTOCOL_VERSION or verdict == Verdict.OTHER_VERSION:
        raise LayoutVersionError(
            f"{path} speaks version {version} of the protocol, this process {PROTOCOL_VERSION}"
        )
    if verdict != Verdict.WELCOME or len(fds) != 1:
        raise NotAStoreError(
            f"the store at {path} refused this process (verdict {verdict}, {len(fds)} descriptors)"
        )
    return fds.pop()


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
