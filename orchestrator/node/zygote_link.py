"""The node's side of the zygote: starts it, asks it for workers, hears what becomes of them."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import deque
from typing import Any, NamedTuple, NoReturn

from orchestrator.node import zygote
from orchestrator.node.system import send_signal
from orchestrator.scheduling.jobs import environment_of, job_of

_PACKET_BYTES_MAX = 65_536
_SIGKILL = 9


class Forked(NamedTuple):
    """A worker process exists."""

    token: int
    pid: int
    #: -1 where the kernel has none.
    pidfd: int


class NotForked(NamedTuple):
    """The machine refused another process."""

    token: int
    error: str


class Exited(NamedTuple):
    """A process has ended and has been reaped."""

    pid: int
    #: As `wait` returns it; None if it is unknown.
    status: int | None
    rss_max_bytes: int


class ZygoteGone(NamedTuple):
    """The zygote has died; its workers are dying."""


Report = Forked | NotForked | Exited | ZygoteGone


class ZygoteLink:
    """One zygote after the other."""

    def __init__(self, store_fd: int, info: dict[str, Any]) -> None:
        self._store_fd = store_fd
        self._info = info
        self._socket: socket.socket | None = None
        #: The zygote has died, and its socket is still to be discarded.
        self._gone = False
        self.pid = 0
        #: Zygotes started so far.
        self.started_count = 0
        #: Requests that did not fit into the socket: (packet, descriptors to close afterwards).
        self._queue: deque[tuple[bytes, list[int]]] = deque()

    def fileno(self) -> int:
        """Return the descriptor to watch for reports; -1 while there is no zygote."""
        return -1 if self._socket is None else self._socket.fileno()

    def start_by_fork(self, close_fds: list[int]) -> None:
        """Fork a zygote from this process: half the cost, and right while it is young and has no threads."""
        ours, theirs = self._pair()
        node_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for fd in close_fds:
                os.close(fd)
            zygote.serve(theirs.detach(), self._store_fd, node_pid, self._info)
        self._started(pid, ours, theirs)

    def start_by_exec(self) -> None:
        """Start a zygote with a fresh interpreter. It reads what it has to know from a pipe."""
        ours, theirs = self._pair()
        node_pid = os.getpid()
        info_r, info_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            _exec_zygote([theirs.detach(), self._store_fd, info_r], node_pid)
        os.close(info_r)
        self._started(pid, ours, theirs)
        # A pipe holds 64 KiB, and a dead reader is no reason to die here: the node ignores SIGPIPE.
        try:
            with os.fdopen(info_w, "wb") as file:
                file.write(json.dumps(self._info).encode())
        except BrokenPipeError:
            pass

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def _started(self, pid: int, ours: socket.socket, theirs: socket.socket) -> None:
        theirs.close()
        ours.setblocking(False)
        self._socket, self._gone, self.pid = ours, False, pid
        self.started_count += 1

    def request(self, token: int, node_address: int, key: str, stdout_fd: int, stderr_fd: int) -> None:
        """Ask for a worker for a job and a runtime environment, as `scheduling.jobs.key_of` names the two.

        The two descriptors are closed here once they have been sent.
        """
        order = {"token": token, "node": node_address, "env": environment_of(key), "job": job_of(key)}
        packet = json.dumps(order).encode()
        self._queue.append((packet, [stdout_fd, stderr_fd]))
        self.flush()

    def flush(self) -> bool:
        """Send what fits; True if something is left."""
        while self._queue and self._socket is not None and not self._gone:
            packet, fds = self._queue[0]
            try:
                socket.send_fds(self._socket, [packet], fds)
            except BlockingIOError:
                break
            except OSError:
                break  # it is gone; `read` will say so
            self._queue.popleft()
            _close_all(fds)
        return bool(self._queue) and self._socket is not None

    def read(self) -> list[Report]:
        """Return what the zygote has said since."""
        reports: list[Report] = []
        while self._socket is not None and not self._gone:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, _PACKET_BYTES_MAX, 1)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # it died with a request unread, which is said once, and before its last words
            except OSError:
                data, fds = b"", []
            if not data:
                self._gone = True
                while self._queue:
                    _close_all(self._queue.popleft()[1])
                reports.append(ZygoteGone())
                break
            message = json.loads(data)
            if message["op"] == "forked":
                reports.append(Forked(message["token"], message["pid"], fds[0] if fds else -1))
            elif message["op"] == "not_forked":
                reports.append(NotForked(message["token"], message["error"]))
            else:
                reports.append(Exited(message["pid"], message["status"], message["rss_max_bytes"]))
        return reports

    def discard(self) -> None:
        """Close the socket of a zygote that is gone. The descriptor must not be watched any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def kill(self) -> None:
        """End the zygote; the kernel ends its workers."""
        if self.pid:
            send_signal(self.pid, -1, _SIGKILL)  # our child, not reaped yet: the pid is its own


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _exec_zygote(fds: list[int], node_pid: int) -> NoReturn:
    """In the forked child: become a fresh interpreter that runs `main_of_exec`."""
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        path = [entry for entry in sys.path if entry]
        code = (
            f"import sys; sys.path[:] = {path!r}\n"
            f"from orchestrator.node.zygote_link import main_of_exec; main_of_exec({fds!r}, {node_pid})"
        )
        os.execv(sys.executable, [sys.executable, "-S", "-c", code])
    finally:
        os._exit(127)


def main_of_exec(fds: list[int], node_pid: int) -> NoReturn:
    """Entry point of a zygote that was started by exec."""
    link_fd, store_fd, info_fd = fds
    for fd in (link_fd, store_fd):
        os.set_inheritable(fd, False)
    with os.fdopen(info_fd, "rb") as file:
        info = json.loads(file.read())
    zygote.serve(link_fd, store_fd, node_pid, info)
