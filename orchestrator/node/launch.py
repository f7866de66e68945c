"""Starts the node process of a session, from the driver."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from orchestrator.exceptions import NodeDiedError
from orchestrator.node import session_dir as directories
from orchestrator.node import spill_dir as spill_dir
from orchestrator.node import system


class HasDescriptor(Protocol):
    """What is needed of a store here."""

    @property
    def fd(self) -> int:
        """The segment's file descriptor."""
        ...


#: Lines of the node's log in the error that says why it did not start.
_LOG_LINES = 20

#: Of a process that has ended nobody knows how.
CODE_UNKNOWN = 255


class NodeProcess:
    """The node process as its driver sees it. In a forked child of the driver it does nothing."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, lock_fd: int, path: str
    ) -> None:
        self._process = process
        #: Shut down to end the session; its end, when the driver dies, says the same.
        self._control = control
        self._lock_fd = lock_fd
        self._session_dir = path
        self._owner_pid = os.getpid()
        self._received = b""
        self._hello: dict[str, Any] | None = None
        self._cleaned = False
        self._leftovers_ended = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def address(self) -> int:
        """Its address in the store, known once `wait_hello` has returned."""
        if self._hello is None:
            raise RuntimeError("the node has not said hello yet")
        address: int = self._hello["address"]
        return address

    def serve(
        self,
        store: HasDescriptor,
        *,
        resources: dict[str, float],
        info: dict[str, Any],
        cluster: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell it what to serve. Does not wait for it; if it has died, `wait_hello` says so.

        Args:
            store: the session's.
            resources: what the node has to give, "CPU" among them.
            info: handed to every worker; the zygote needs "driver_sys_path". With "driver_address" the
                session is that driver's own; without, it stands, and drivers attach to it.
            cluster: what makes it a node of a cluster, for `cluster_member`.
        """
        config = {
            "resources": resources,
            "session_dir": self._session_dir,
            "info": info,
            "parent_pid": os.getpid(),
            # Such a node has libraries to import, and is started without `site`.
            "cluster": cluster and {**cluster, "import_path": [entry for entry in sys.path if entry]},
        }
        data = json.dumps(config).encode() + b"\n"
        fds = [store.fd, self._lock_fd, *([cluster["listen_fd"]] if cluster else [])]
        try:
            sent = socket.send_fds(self._control, [data], fds)
            self._control.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def alive(self) -> bool:
        """Tell whether the process runs. If it was killed, what it left is ended when this is noticed."""
        if self._reap(os.WNOHANG) is None:
            return True
        self._end_leftovers()
        return False

    def end_reason(self) -> str:
        """Return why a process that is not alive has ended: its own words, or its exit status."""
        if self._cleaned:
            return "the session has been ended"
        try:
            self._received += self._control.recv(65536, socket.MSG_DONTWAIT)
            for line in self._received.splitlines():
                if (reason := json.loads(line).get("ended")) is not None:
                    return str(reason)
        except (OSError, ValueError):
            pass  # it had no time to say anything
        return f"exit code {self._process.returncode}{self.log_tail()}"

    def wait_hello(self, timeout_s: float = 30.0) -> None:
        """Wait until the node serves.

        Raises:
            NodeDiedError: it ended instead, or took longer than `timeout_s`. Nothing of it is left.
        """
        deadline_s = time.monotonic() + timeout_s
        while self._hello is None:
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            if not poll.poll(max(deadline_s - time.monotonic(), 0) * 1000):
                log = self.log_tail()
                self.kill()
                raise NodeDiedError(f"the node process did not answer within {timeout_s:g} s{log}")
            try:
                piece = self._control.recv(65536)
            except ConnectionResetError:  # it ended before it had read what it was sent
                piece = b""
            if not piece:
                code = self._reap()
                log = self.log_tail()
                self.kill()
                raise NodeDiedError(f"the node process ended at its start with code {code}{log}")
            self._received += piece
            line, end, rest = self._received.partition(b"\n")
            if end:
                self._hello, self._received = json.loads(line), rest

    def tell(self, message: dict[str, Any]) -> None:
        """Send the node a message as its parent. One that has died is noticed elsewhere."""
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the session: the node ends its workers, and removes the session's directory. Repeatable."""
        if os.getpid() != self._owner_pid or self._cleaned:
            return
        try:
            self._control.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone
        if not self._wait_end(timeout_s):
            self._process.kill()
        self._clean_up()

    def kill(self) -> None:
        """End the node at once, and with it everything below it."""
        if os.getpid() != self._owner_pid or self._cleaned:
            return
        if self._process.returncode is None:
            self._process.kill()
        self._clean_up()

    def _wait_end(self, timeout_s: float) -> bool:
        if self._process.returncode is not None:
            return True
        pidfd = system.open_pidfd(self._process.pid)
        if pidfd < 0:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(pidfd)

    def _reap(self, options: int = 0) -> int | None:
        """Return the exit code of the process, after waiting for its end unless `options` is WNOHANG.

        Not by `Popen.poll` and `wait`, whose lock a Ctrl-C in a wrong moment leaves taken for ever.
        """
        process = self._process
        if process.returncode is None:
            try:
                pid, status = os.waitpid(process.pid, options)
            except ChildProcessError:
                # The Ctrl-C came between the call and its result; or another thread has just called it.
                process.returncode = process.returncode or CODE_UNKNOWN
            else:
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode

    def _clean_up(self) -> None:
        """Do what the node did not get to do, if it was killed: end what it left, remove the directory."""
        self._cleaned = True
        self._reap()
        self._end_leftovers()
        directories.remove_session_dir(self._session_dir)
        self._control.close()
        os.close(self._lock_fd)

    def _end_leftovers(self) -> None:
        """End what a killed node could not: its workers are dead, but not all that they had started."""
        if self._process.returncode != 0 and not self._leftovers_ended and os.getpid() == self._owner_pid:
            self._leftovers_ended = True
            system.kill_marked(directories.MARK, self._session_dir)

    def log_tail(self) -> str:
        """Return the last lines of its log as the end of an error's text; "" if there are none."""
        try:
            with open(_log_path(self._session_dir), errors="replace") as file:
                lines = file.read()[-10_000:].splitlines()[-_LOG_LINES:]
        except OSError:
            return ""
        return "; the last lines of its log:\n    " + "\n    ".join(lines) if lines else ""


def spawn(session_dir: str) -> NodeProcess:
    """Start the interpreter of a node process. It waits to be told what to serve (`NodeProcess.serve`).

    Args:
        session_dir: a path as `session_dir.new_session_path` gives it; made here, removed at the session's
        end.

    Raises:
        PermissionError: the session's directory, or its parent, belongs to somebody else.
        OSError: no more processes or descriptors.
    """
    lock_fd = directories.open_session_dir(session_dir)
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            with open(_log_path(session_dir), "ab") as log:
                process = subprocess.Popen(
                    [*interpreter(), bootstrap(_PROGRAM.format(fd=theirs.fileno()))],
                    env={**os.environ, directories.MARK: session_dir},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(),),
                    # Ctrl-C in a terminal is for the driver alone.
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            directories.remove_session_dir(session_dir)
            os.close(lock_fd)
            raise
    return NodeProcess(process, ours, lock_fd, session_dir)


def start_node(
    store: HasDescriptor,
    *,
    resources: dict[str, float],
    session_dir: str,
    info: dict[str, Any],
    found: Callable[[], Mapping[str, Any]] | None = None,
) -> NodeProcess:
    """Start a node process that serves `store`, and return without waiting for it.

    Args:
        store, resources, info: see `NodeProcess.serve`.
        session_dir: see `spawn`.
        found: called when the directory is there, to make the node one of a cluster; returns what
            `cluster_member` wants. What it raises is raised here, and nothing is left.

    Raises:
        PermissionError, OSError: see `spawn`.
    """
    node = spawn(session_dir)
    try:
        node.serve(store, resources=resources, info=info, cluster=found() if found is not None else None)
    except BaseException:
        node.kill()
        raise
    return node


#: What the node process runs.
_PROGRAM = "from orchestrator.node.main import main; main({fd})"


def interpreter(*, site: bool = False) -> list[str]:
    """Return the command of an interpreter like this one, with or without `site`, for a program to follow."""
    return [sys.executable, *_interpreter_flags(), *(() if site else ("-S",)), "-c"]


def bootstrap(program: str) -> str:
    """Return a program that finds these packages first. Without `site`, it must be told where they are."""
    roots = dict.fromkeys(map(_root_of, ("orchestrator", "plasma")))
    return (
        # An empty entry is the current directory: modules of the user's must not shadow the standard library
        # here.
        f"import sys; sys.path[:] = [entry for entry in sys.path if entry] + {list(roots)!r}\n{program}"
    )


def _root_of(package: str) -> str:
    """Return where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no package {package} beside this one")
    return os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))


def _interpreter_flags() -> list[str]:
    """Return the options (-O, -W, -X, ...) with which this interpreter runs, as `multiprocessing` does."""
    return [flag for flag in subprocess._args_from_interpreter_flags() if flag != "-S"]  # type: ignore[attr-defined]


def _log_path(session_dir: str) -> str:
    return os.path.join(session_dir, directories.LOGS, "node.log")
