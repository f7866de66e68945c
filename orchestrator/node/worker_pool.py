"""The worker processes: their pipes, their signals, their ends. What they do is not known here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

from orchestrator.node.logs import LogFile, LogKeeper, WorkerStream
from orchestrator.node.reactor import Reactor
from orchestrator.node.system import send_signal
from orchestrator.node.zygote_link import ZygoteLink
from orchestrator.scheduling.jobs import job_of

#: A worker that was asked to end gets this long for its exit handlers.
GRACE_S = 2.0


class WorkerProcess:
    """One process, from the request to the reaping."""

    __slots__ = (
        "address",
        "decision",
        "env",
        "file",
        "kill_at_s",
        "label",
        "pid",
        "pidfd",
        "streams",
        "token",
        "verdict",
    )

    def __init__(self, token: int, env: str, streams: list[WorkerStream], file: LogFile) -> None:
        self.token = token
        #: Key of its job and runtime environment (`scheduling.jobs.key_of`).
        self.env = env
        #: 0 until it has been forked.
        self.pid = 0
        self.pidfd = -1
        #: Its address in the store; 0 until it is ready.
        self.address = 0
        #: What its lines are marked with: the class of the actor it hosts.
        self.label = ""
        #: Why this node ended it; None if it did not.
        self.decision: str | None = None
        #: What that means for the task or the actor in it: a word of `scheduling.events`, or "".
        self.verdict = ""
        #: When its grace ends; None if it has not been asked to end.
        self.kill_at_s: float | None = None
        self.streams = streams
        self.file = file

    @property
    def stderr_tail(self) -> list[str]:
        """The last lines of its stderr."""
        return list(self.streams[1].tail)


class WorkerPool:
    """All processes, by token, pid and address."""

    def __init__(
        self,
        link: ZygoteLink,
        reactor: Reactor,
        keeper: LogKeeper,
        on_lines: Callable[[WorkerProcess, str, list[str]], None],
    ) -> None:
        self._link = link
        self._reactor = reactor
        self._keeper = keeper
        #: Called with the process, the stream's name and complete lines.
        self._on_lines = on_lines
        self._by_token: dict[int, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}
        self._by_address: dict[int, WorkerProcess] = {}
        #: Jobs whose workers' pipes are left alone.
        self._paused: set[str] = set()

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self._by_token.values()))

    def get(self, token: int) -> WorkerProcess | None:
        """Return the process with this token."""
        return self._by_token.get(token)

    def at(self, address: int) -> WorkerProcess | None:
        """Return the process that is ready at this address."""
        return self._by_address.get(address)

    def with_pid(self, pid: int) -> WorkerProcess | None:
        """Return the process with this pid."""
        return self._by_pid.get(pid)

    # ------------------------------------------------------------ beginnings

    def start(self, token: int, node_address: int, env: str = "") -> None:
        """Ask the zygote for a process.

        Raises:
            OSError: no more descriptors.
        """
        file = self._keeper.open(token)
        reading, writing = [], []
        try:
            for name in ("stdout", "stderr"):
                read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(read_fd, False)
                reading.append(WorkerStream(read_fd, name, file))
                writing.append(write_fd)
        except OSError:
            for fd in [stream.fd for stream in reading] + writing:
                os.close(fd)
            raise
        process = self._by_token[token] = WorkerProcess(token, env, reading, file)
        if job_of(env) not in self._paused:
            self._watch(process)
        self._link.request(token, node_address, env, *writing)

    def forked(self, token: int, pid: int, pidfd: int) -> None:
        """The zygote has done it."""
        process = self._by_token.get(token)
        if process is None:
            if pidfd >= 0:
                os.close(pidfd)
            return
        self._enter_pid(process, pid)
        process.pidfd = pidfd
        if process.decision is not None:
            send_signal(pid, pidfd, signal.SIGKILL)

    def ready(self, process: WorkerProcess, address: int, pid: int) -> None:
        """It has attached to the store, perhaps before the zygote has said that there is such a process."""
        process.address = address
        self._by_address[address] = process
        self._enter_pid(process, pid)

    def _enter_pid(self, process: WorkerProcess, pid: int) -> None:
        self._by_pid.pop(process.pid, None)
        process.pid = pid
        self._by_pid[pid] = process

    # ------------------------------------------------------------ ends

    def kill(self, process: WorkerProcess, reason: str) -> None:
        """End a process at once. The first reason counts."""
        if process.decision is None or process.kill_at_s is not None:
            process.decision = process.decision or reason
            process.kill_at_s = None
            if process.pid:
                send_signal(process.pid, process.pidfd, signal.SIGKILL)

    def end_gently(self, process: WorkerProcess, reason: str, now_s: float, grace_s: float = GRACE_S) -> None:
        """Ask a process to end, and end it when its grace is over."""
        if process.decision is None and process.pid:
            process.decision, process.kill_at_s = reason, now_s + grace_s
            send_signal(process.pid, process.pidfd, signal.SIGTERM)
        else:
            self.kill(process, reason)

    def kill_overdue(self, now_s: float) -> None:
        """End those whose grace is over."""
        for process in self:
            if process.kill_at_s is not None and process.kill_at_s <= now_s:
                self.kill(process, process.decision or "")

    def remove(self, process: WorkerProcess) -> None:
        """Forget a process that is dead: deliver its last lines, release its descriptors."""
        for stream in process.streams:
            if stream.fd >= 0:
                lines = stream.read_rest()
                if lines:
                    self._on_lines(process, stream.name, lines)
                self._reactor.forget(stream.fd)
                stream.close()
        self._keeper.retire(process.file)
        if process.pidfd >= 0:
            os.close(process.pidfd)
        del self._by_token[process.token]
        self._by_pid.pop(process.pid, None)
        self._by_address.pop(process.address, None)

    def kill_all(self) -> None:
        """End every process, without reasons: the session is over."""
        for process in self:
            if process.pid:
                send_signal(process.pid, process.pidfd, signal.SIGKILL)

    # ------------------------------------------------------------ what they print

    def pause_streams(self, job: str) -> None:
        """Stop reading what a job's workers print; who prints more than a pipe holds waits."""
        if job not in self._paused:
            self._paused.add(job)
            for process in self._of_job(job):
                for stream in process.streams:
                    self._reactor.forget(stream.fd)

    def resume_streams(self, job: str) -> None:
        """Read again."""
        if job in self._paused:
            self._paused.remove(job)
            for process in self._of_job(job):
                self._watch(process)

    def read_now(self, job: str) -> None:
        """Read what a job's workers have printed so far."""
        for process in self._of_job(job):
            self._read_all(process)

    def relabel(self, process: WorkerProcess, label: str) -> None:
        """Mark what a process prints from now on; what it has printed so far is marked as before."""
        self._read_all(process)
        process.label = label

    def _read_all(self, process: WorkerProcess) -> None:
        for stream in process.streams:
            if stream.fd >= 0:
                self._read(process, stream)

    def _of_job(self, job: str) -> list[WorkerProcess]:
        return [process for process in self if job_of(process.env) == job]

    def _watch(self, process: WorkerProcess) -> None:
        for stream in process.streams:
            if stream.fd >= 0:
                self._reactor.watch(stream.fd, lambda stream=stream: self._read(process, stream))  # type: ignore[misc]

    def _read(self, process: WorkerProcess, stream: WorkerStream) -> None:
        lines, at_end = stream.read()
        if lines:
            self._on_lines(process, stream.name, lines)
        if at_end:
            self._reactor.forget(stream.fd)
            stream.close()
