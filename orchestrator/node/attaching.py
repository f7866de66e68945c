"""A driver's way to the node of a standing session: finds it, and comes in at its door."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Any

from orchestrator.node import session_dir as directories
from orchestrator.node import system
from orchestrator.node.cluster_address import cluster_address, find_node

#: Whoever does not answer in this time is taken for dead.
ANSWER_TIMEOUT_S = 5.0
_ANSWER_BYTES_MAX = 65_536
#: Pause before another try at a door whose backlog is full.
_RETRY_S = 0.005


class SeveralSessionsError(ConnectionError):
    """An address means more than one session."""


class AttachedNode:
    """The node process as an attached driver sees it: alive or not, and nothing of the driver's own."""

    def __init__(self, sock: socket.socket, pid: int, facts: dict[str, Any]) -> None:
        #: Open as long as this driver takes part.
        self._sock = sock
        self.pid = pid
        self.address: int = facts["node"]
        #: What the node has told.
        self.facts = facts
        self._pidfd = system.open_pidfd(pid) if pid else -1
        self._owner_pid = os.getpid()

    def alive(self) -> bool:
        """Tell whether the node is there, and this driver still one of its own."""
        if self._sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLRDHUP)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def end_reason(self) -> str:
        """Return why a node that is not alive has ended, as far as a driver can see it."""
        return "its session has ended"

    def hang_up(self) -> None:
        """Leave: to the node this is the end of the driver. Repeatable."""
        if self._sock.fileno() >= 0:
            self._sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def find_session(address: str) -> str:
    """Return the directory of the session that an address means.

    Args:
        address: "auto" for the standing session of this user on this machine; or a session's directory, or
            the directory that was given to `orchestrator start --temp-dir`; or `host:port` of a cluster's
            head, or its join string, for the node of that cluster on this machine.

    Raises:
        ConnectionError: there is no such session, or there are several; the text says what was looked at.
    """
    if address == "auto":
        return _only_one(directories.runtime_root(), "")
    head = cluster_address(address)
    if head:
        return find_node(head, directories.runtime_root())
    path = os.path.abspath(address)
    if os.path.lexists(os.path.join(path, directories.DOOR)):
        return path
    if os.path.isdir(path):
        return _only_one(directories.runtime_root(path), f" nor in {path} itself")
    if os.sep in address:
        raise ConnectionError(f"there is no session at {path}: start one with `orchestrator start --head`")
    raise ConnectionError(
        f"{address!r} is no session of this machine: a driver attaches to the node of its own machine. Pass "
        'address="auto", the directory of a session, or the host:port of a cluster\'s head'
    )


def _only_one(root: str, beside: str) -> str:
    found = directories.standing_sessions(root)
    head = os.path.join(root, directories.HEAD)
    if head in found:
        return head
    if not found:
        raise ConnectionError(
            f"no session stands on this machine: there is none in {root}{beside}. Start one with "
            "`orchestrator start --head` (--local for this machine alone); or leave the address out for a "
            "session of your own"
        )
    if len(found) > 1:
        listed = "".join(f"\n    {path}" for path in found)
        raise SeveralSessionsError(
            f"several sessions stand on this machine; pass the address of one:{listed}"
        )
    return found[0]


def knock(session_dir: str, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[AttachedNode, int]:
    """Come in at a session's door; return the node, and the descriptor of its segment, which is the caller's.

    Raises:
        ConnectionError: nobody answers in `timeout_s` seconds, or the answer is a refusal.
    """
    path = os.path.join(session_dir, directories.DOOR)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        pid = _dial(sock, path, timeout_s)
        facts, fd = _say_hello(sock, path, timeout_s)
        return AttachedNode(sock, facts["node_pid"] if pid else 0, facts), fd
    except BaseException:
        sock.close()
        raise


def _dial(sock: socket.socket, path: str, timeout_s: float) -> int:
    """Connect; return the pid of the process that listens, as the kernel knows it."""
    deadline_s = time.monotonic() + timeout_s
    sock.settimeout(timeout_s)
    while True:
        try:
            with directories.socket_address(path) as address:
                sock.connect(address)
        except (BlockingIOError, TimeoutError):
            if time.monotonic() >= deadline_s:
                raise ConnectionError(f"the node at {path} lets nobody in for {timeout_s:g} s") from None
            time.sleep(_RETRY_S)
        except OSError as exc:
            raise ConnectionError(f"no session stands at {path}: {exc.strerror}") from None
        else:
            import struct

            pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (os.getuid(), 0):
                raise ConnectionError(f"{path} belongs to user {uid}, not to {os.getuid()}")
            return int(pid)


def _say_hello(sock: socket.socket, path: str, timeout_s: float) -> tuple[dict[str, Any], int]:
    from orchestrator import __version__

    hello = {
        "op": "hello",
        "version": __version__,
        "python": list(sys.version_info[:2]),
        "pid": os.getpid(),
    }
    fds: list[int] = []
    received = b""
    try:
        sock.sendall(json.dumps(hello).encode() + b"\n")
        while not received.endswith(b"\n"):
            data, new, _, _ = socket.recv_fds(sock, _ANSWER_BYTES_MAX, 1)
            fds += new
            received += data
            if not data or len(received) > _ANSWER_BYTES_MAX:
                raise ConnectionError(f"the node at {path} hung up instead of answering")
        answer = json.loads(received)
        if answer.get("op") != "welcome" or len(fds) != 1:
            raise ConnectionError(f"the session at {path} takes no driver: {answer.get('error')}")
        return answer, fds.pop()
    except TimeoutError:
        raise ConnectionError(f"the node at {path} did not answer within {timeout_s:g} s") from None
    except (ValueError, AttributeError):
        raise ConnectionError(f"what answers at {path} is no node of a session") from None
    except ConnectionError as exc:
        raise ConnectionError(str(exc) or f"the node at {path} hung up") from None
    except OSError as exc:
        raise ConnectionError(f"the node at {path} cannot be asked: {exc}") from None
    finally:
        for fd in fds:
            os.close(fd)
