"""Where drivers come in: a Unix socket in the session's private directory.

    driver → node   one line of JSON: `{"version", "python", "pid"}`
    node → driver   one line of JSON, `{"op": "welcome", "ticket", ...}`, and with it the segment's
                    descriptor; or `{"op": "refused", "error"}`, and the end

From then on the two speak on the driver's channel, where it shows its ticket in `attach`. The connection
stays open and silent: its end, or the end of the process at the other end, is the driver's end.

Nobody can hold the node up: a caller has `HELLO_TIMEOUT_S` for its line, which is bounded, and the number of
callers is. Whoever says something else is told so, counted and dropped.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from orchestrator.node.reactor import Reactor
from orchestrator.node.session_dir import socket_address
from orchestrator.node.system import open_pidfd

#: A local caller that is alive needs microseconds.
HELLO_TIMEOUT_S = 2.0
HELLO_BYTES_MAX = 4096
#: Drivers, and those who want to become one. Each takes two descriptors here and a slot of the store's.
CALLERS_MAX = 512
#: Callers that the kernel keeps until they are let in.
_BACKLOG = 128


class Caller:
    """One connection, and what is known of the process at the other end."""

    __slots__ = ("deadline_s", "pid", "pidfd", "received", "sock", "ticket")

    def __init__(self, sock: socket.socket, pid: int, deadline_s: float) -> None:
        self.sock = sock
        #: As the kernel says; 0 if the process is in another namespace.
        self.pid = pid
        self.pidfd = -1
        self.received = b""
        #: Until when it must have said hello, on the monotonic clock.
        self.deadline_s = deadline_s
        #: What it shows to attach; "" until it has said hello.
        self.ticket = ""


class Door:
    """Lets drivers in, and says when they have gone.

    Args:
        path: where the socket is made.
        version: of this package; a driver of another one is refused.
        segment_fd: what is handed out.
        facts: what a driver is told beside that.
        on_gone: called with the ticket of a caller that has ended or hung up.
        complain: called with a sentence about each caller that was turned away.
    """

    def __init__(
        self,
        path: str,
        reactor: Reactor,
        *,
        version: str,
        segment_fd: int,
        facts: Callable[[], dict[str, Any]],
        on_gone: Callable[[str], None],
        complain: Callable[[str], None],
        callers_max: int = CALLERS_MAX,
    ) -> None:
        self._reactor = reactor
        self._version = version
        self._segment_fd = segment_fd
        self._facts = facts
        self._on_gone = on_gone
        self._complain = complain
        self._callers_max = callers_max
        #: Callers by descriptor, and of these those that owe their hello, in the order of their deadlines.
        self._callers: dict[int, Caller] = {}
        self._expected: dict[int, Caller] = {}
        self._by_ticket: dict[str, Caller] = {}
        #: Set while nobody is let in: the reason.
        self.closed_because = ""
        #: Callers that were turned away: garbage, late, foreign, of another version, too many.
        self.refused_count = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket_address(path) as address:
            self._listener.bind(address)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        reactor.watch(self._listener.fileno(), self._accept)

    def caller(self, ticket: str) -> Caller | None:
        """Return the caller that was given this ticket and is still there."""
        return self._by_ticket.get(ticket)

    def tick(self, now_s: float) -> None:
        """Turn away those that have said nothing for too long."""
        for caller in list(self._expected.values()):
            if caller.deadline_s > now_s:
                break
            self._refuse(caller, f"it said nothing sensible for {HELLO_TIMEOUT_S:g} s")

    def close(self) -> None:
        """Hang up on everybody."""
        self._reactor.forget(self._listener.fileno())
        self._listener.close()
        for caller in list(self._callers.values()):
            self._forget(caller)

    # ------------------------------------------------------------ callers

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as exc:
            self._complain(f"a caller could not be let in: {exc}")
            return
        sock.setblocking(False)
        pid, uid = _peer(sock)
        caller = Caller(sock, pid, time.monotonic() + HELLO_TIMEOUT_S)
        self._callers[sock.fileno()] = self._expected[sock.fileno()] = caller
        self._reactor.watch(sock.fileno(), lambda: self._read(caller))
        if uid != os.getuid():
            self._refuse(caller, f"this session belongs to user {os.getuid()}, and you are user {uid}")
        elif len(self._callers) > self._callers_max:
            self._refuse(caller, f"this session has {self._callers_max} drivers, and takes no more")

    def _read(self, caller: Caller) -> None:
        try:
            data = caller.sock.recv(HELLO_BYTES_MAX + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone(caller)
            return
        caller.received += data
        if caller.ticket:
            self._refuse(caller, "there is nothing to be said here after the hello")
            return
        line, end, rest = caller.received.partition(b"\n")
        if len(line) > HELLO_BYTES_MAX or rest:
            self._refuse(caller, f"a hello is one line of at most {HELLO_BYTES_MAX} bytes")
        elif end:
            self._greet(caller, line)

    def _greet(self, caller: Caller, line: bytes) -> None:
        objection = self.closed_because or _objection(line, self._version)
        if objection:
            self._refuse(caller, objection)
            return
        caller.ticket = secrets.token_hex(16)
        caller.received = b""
        answer = {"op": "welcome", "ticket": caller.ticket, **self._facts()}
        try:
            socket.send_fds(caller.sock, [json.dumps(answer).encode() + b"\n"], [self._segment_fd])
        except OSError as exc:
            self._refuse(caller, f"it does not take the answer: {exc}")
            return
        self._by_ticket[caller.ticket] = caller
        del self._expected[caller.sock.fileno()]
        caller.pidfd = open_pidfd(caller.pid) if caller.pid else -1
        if caller.pidfd >= 0:
            # A child that it has forked may keep the connection open.
            self._reactor.watch(caller.pidfd, lambda: self._gone(caller))

    def hang_up(self, ticket: str) -> None:
        """End a connection from this side."""
        caller = self._by_ticket.get(ticket)
        if caller is not None:
            self._gone(caller)

    def _refuse(self, caller: Caller, why: str) -> None:
        self.refused_count += 1
        self._complain(f"process {caller.pid or '?'} at the door is turned away: {why}")
        try:
            caller.sock.send(json.dumps({"op": "refused", "error": why}).encode() + b"\n")
        except OSError:
            pass  # it is gone, or does not listen
        self._gone(caller)

    def _gone(self, caller: Caller) -> None:
        if caller.sock.fileno() < 0:
            return
        self._forget(caller)
        if caller.ticket:
            self._on_gone(caller.ticket)

    def _forget(self, caller: Caller) -> None:
        del self._callers[caller.sock.fileno()]
        self._expected.pop(caller.sock.fileno(), None)
        self._by_ticket.pop(caller.ticket, None)
        self._reactor.forget(caller.sock.fileno())
        caller.sock.close()
        if caller.pidfd >= 0:
            self._reactor.forget(caller.pidfd)
            os.close(caller.pidfd)
            caller.pidfd = -1


def _objection(line: bytes, version: str) -> str:
    """Return why a driver that says this cannot attach; "" if it can."""
    try:
        hello = json.loads(line)
    except (ValueError, RecursionError):
        return "this is the door of an orchestrator session, and what was said is no hello"
    if not isinstance(hello, dict) or hello.get("op") != "hello":
        return "this is the door of an orchestrator session, and what was said is no hello"
    if hello.get("version") != version:
        return (
            f"the session runs version {version} of plasma-orchestrator, and the driver "
            f"{str(hello.get('version'))[:40]}: they must be the same"
        )
    ours = list(sys.version_info[:2])
    if hello.get("python") != ours:
        return (
            f"the session runs Python {ours[0]}.{ours[1]}, and the driver "
            f"{str(hello.get('python'))[:40]}: they must be of the same minor version"
        )
    return ""


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return process and user id of the other end, as the kernel knows them."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid
