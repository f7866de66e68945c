"""A store for strangers: processes that inherit nothing find it at a path.

The server listens on a Unix socket in a directory of mode 0700, checks with ``SO_PEERCRED`` that the caller
is the same user, and hands out the segment's file descriptor. From then on the two never speak again: the
client works on the memory itself. The connection stays open only so that the server learns of the client's
death and reaps at once.

::

    client → server   magic (8 bytes), protocol version (u32), 4 bytes 0
    server → client   magic (8 bytes), protocol version (u32), verdict (u32); with verdict 0 the descriptor

One thread serves everybody. Nobody can hold it up: a caller has two seconds for its 16 bytes, whoever says
anything else is logged and dropped, and the number of connections is bounded.
"""

from __future__ import annotations

import fcntl
import logging
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from plasma.errors import UsageError

if TYPE_CHECKING:
    from plasma.store import Store

__all__ = ["HELLO", "MAGIC", "PROTOCOL_VERSION", "Server", "Verdict", "address_of", "serve"]

logger = logging.getLogger("plasma.server")

MAGIC = b"PLASMA\r\n"
PROTOCOL_VERSION = 1

#: magic, version, verdict (0 from the client)
HELLO = struct.Struct("<8sII")

#: a local caller that is alive needs microseconds
HELLO_TIMEOUT_S = 2.0

#: how often the server looks for dead clients that it holds no connection of, such as forked ones
REAP_INTERVAL_S = 1.0

#: a process's connection may break before the kernel has released its liveness lock, so a look at once may be
#: early
REAP_AGAIN_S = 0.02

#: descriptors are the scarce thing: the usual soft limit is 1024, and running out stops accepting, not
#: serving
CONNECTIONS_MAX = 16384


class Verdict:
    """The server's answers."""

    WELCOME = 0
    OTHER_VERSION = 1
    OTHER_USER = 2


class _Connection:
    """A caller: first one that owes its hello, then a client whose end is awaited."""

    __slots__ = ("deadline", "pid", "received", "sock", "welcomed")

    def __init__(self, sock: socket.socket, pid: int, deadline: float) -> None:
        self.sock = sock
        self.pid = pid
        self.deadline = deadline
        self.received = b""
        self.welcomed = False


class Server:
    """Serves one store at one path.

    ``run()`` until ``stop()``; then ``close()``, or use it as a context manager.
    """

    def __init__(self, path: str | os.PathLike[str], store: Store) -> None:
        """Start listening.

        Raises UsageError if somebody serves there already or others may enter the directory.
        """
        self.path = Path(path)
        self.store = store
        #: connections refused or dropped since the start: garbage, late, foreign, too many
        self.dropped_count = 0
        self._connections: dict[int, _Connection] = {}
        #: those that haven't said hello, oldest first: the order of their deadlines
        self._expected: dict[int, _Connection] = {}
        self._reap_at = time.monotonic() + REAP_INTERVAL_S
        self._stopped = False
        self._listener = _listen(self.path)
        self._inode = self.path.stat().st_ino
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def client_count(self) -> int:
        """Callers that were given the store and are still there."""
        return len(self._connections) - len(self._expected)

    def run(self) -> None:
        """Serve until :meth:`stop` is called."""
        while not self._stopped:
            for key, _ in self._selector.select(self._patience_s()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._wake_out:
                    self._read(self._connections[key.fd])
            self._drop_late()
            if time.monotonic() >= self._reap_at:
                self._reap()

    def stop(self) -> None:
        """End :meth:`run` soon.

        May be called from any thread and from signal handlers; more than once, too.
        """
        self._stopped = True
        try:
            self._wake_in.send(b"x")
        except OSError:  # closed, or full of wake-ups
            pass

    def close(self) -> None:
        """Hang up on everybody and remove the socket.

        The store stays; clients go on using it while they live.
        """
        self._stopped = True
        if self._selector.get_map() is None:
            return
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._expected.clear()
        self._selector.close()
        for sock in (self._listener, self._wake_in, self._wake_out):
            sock.close()
        try:
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        except FileNotFoundError:
            pass

    def _patience_s(self) -> float:
        """Until the next thing that happens by itself: a look for the dead, a caller's time running out."""
        until = self._reap_at
        for connection in self._expected.values():
            until = min(until, connection.deadline)
            break
        return max(0.0, until - time.monotonic())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            # Out of descriptors: the caller stays in the backlog. It would wake us again at once, so don't
            # listen for new ones until the next look for the dead.
            logger.warning("can't accept: %s", error)
            self._selector.unregister(self._listener)
            self._reap_at = time.monotonic() + REAP_AGAIN_S
            return
        sock.setblocking(False)
        pid, uid = _peer(sock)
        connection = _Connection(sock, pid, time.monotonic() + HELLO_TIMEOUT_S)
        self._connections[sock.fileno()] = self._expected[sock.fileno()] = connection
        self._selector.register(sock, selectors.EVENT_READ)
        if uid != os.getuid():
            self._answer(connection, Verdict.OTHER_USER)
            self._drop(connection, f"belongs to user {uid}")
        elif len(self._connections) > CONNECTIONS_MAX:
            self._drop(connection, f"is one more than {CONNECTIONS_MAX}")

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(HELLO.size + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(connection)
            if connection.welcomed:
                self._reap()
                self._reap_at = time.monotonic() + REAP_AGAIN_S
            return
        connection.received += data
        if connection.welcomed or len(connection.received) > HELLO.size:
            self._drop(connection, "talks when there is nothing to say")
        elif len(connection.received) == HELLO.size:
            self._greet(connection)
        elif not MAGIC.startswith(connection.received[: len(MAGIC)]):
            self._drop(connection, "doesn't speak our protocol")

    def _greet(self, connection: _Connection) -> None:
        magic, version, _ = HELLO.unpack(connection.received)
        if magic != MAGIC:
            self._drop(connection, "doesn't speak our protocol")
        elif version != PROTOCOL_VERSION:
            self._answer(connection, Verdict.OTHER_VERSION)
            self._drop(connection, f"speaks version {version}")
        elif self._answer(connection, Verdict.WELCOME):
            connection.welcomed = True
            connection.received = b""
            del self._expected[connection.sock.fileno()]

    def _answer(self, connection: _Connection, verdict: int) -> bool:
        """Send the answer, and with a welcome the descriptor.

        False (and dropped) if the caller doesn't take it.
        """
        fds = [self.store.fd] if verdict == Verdict.WELCOME else []
        try:
            socket.send_fds(connection.sock, [HELLO.pack(MAGIC, PROTOCOL_VERSION, verdict)], fds)
        except OSError as error:
            self._drop(connection, f"doesn't take the answer: {error}")
            return False
        return True

    def _drop_late(self) -> None:
        now = time.monotonic()
        late = [connection for connection in self._expected.values() if connection.deadline <= now]
        for connection in late:
            self._drop(connection, f"said nothing sensible for {HELLO_TIMEOUT_S:g} s")

    def _drop(self, connection: _Connection, why: str) -> None:
        if connection.sock.fileno() < 0:
            return
        self.dropped_count += 1
        logger.warning("dropped process %d at %s: it %s", connection.pid, self.path, why)
        self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        self._selector.unregister(connection.sock)
        del self._connections[fd]
        self._expected.pop(fd, None)
        connection.sock.close()

    def _reap(self) -> None:
        self._reap_at = time.monotonic() + REAP_INTERVAL_S
        if self._listener.fileno() not in self._selector.get_map():
            self._selector.register(self._listener, selectors.EVENT_READ)
        count = self.store.reap()
        if count:
            logger.info("reaped %d dead client(s)", count)


def serve(path: str | os.PathLike[str], size_bytes: int | None = None) -> Server:
    """A server of a new store of ``size_bytes`` (default: the store's own) at ``path``.

    Call its ``run()``.
    """
    from plasma.store import Store

    path = Path(path)
    return Server(path, Store.create(size_bytes, name=path.name[:31]))


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user id of the other end, as the kernel knows them."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """A socket address for ``path``, also for one longer than the 107 bytes that fit into an address."""
    if len(os.fsencode(path)) <= 107:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, replacing one that nobody listens at any more."""
    directory = path.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(
            f"{directory} isn't private (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}): "
            f"a store must be where only its user may enter. Name a new directory, or: chmod 700 {directory}"
        )
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Of two servers that find the same dead socket, only one may replace it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_dead_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_of(path) as address:
                listener.bind(address)
            listener.listen(1024)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise UsageError(f"can't serve a store at {path}: {error}") from error
        return listener
    finally:
        os.close(lock)


def _remove_dead_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"can't serve a store at {path}: a file is there, and not one of a store")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, address_of(path) as address:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            pass  # a full backlog is a sign of life, too
    raise UsageError(f"can't serve a store at {path}: another server is listening there")
