"""Standing sessions from outside: begin one, find it, end it. What the command line does with processes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

from orchestrator.node import session_dir as directories
from orchestrator.node import supervisor, system
from orchestrator.node.attaching import SeveralSessionsError as SeveralSessionsError
from orchestrator.node.attaching import find_session
from orchestrator.node.founding import ANNOUNCEMENT
from orchestrator.node.supervisor import DRAIN_S, STOP_S, Options

#: How long a start may take before it is given up.
START_TIMEOUT_S = 60.0
#: What a supervisor gets beyond the time it gives to its node.
_END_S = 5.0


class StartError(Exception):
    """A session did not start; the text says why."""


class StopError(Exception):
    """A session did not end; the text says what to do."""


class Standing:
    """A session that stands, by its directory and its processes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.facts = directories.read_facts(path)

    @property
    def supervisor_pid(self) -> int:
        """Pid of the supervisor; 0 if it is gone, whoever may have that number now."""
        return self._living("supervisor")

    @property
    def node_pid(self) -> int:
        """Pid of the node process; 0 if it is gone."""
        return self._living("node")

    def _living(self, which: str) -> int:
        pid, ticks = self.facts.get(which) or (0, 0)
        return pid if pid and system.start_ticks(pid) == ticks else 0

    def join_string(self) -> str:
        """Return how others join the cluster that was begun here; "" if none was."""
        try:
            with open(os.path.join(self.path, ANNOUNCEMENT), encoding="utf-8") as file:
                return str(json.load(file).get("join", ""))
        except (OSError, ValueError):
            return ""

    def log_files(self) -> list[str]:
        """Return the paths of its logs: the supervisor's, the node's, then those of workers."""
        place = os.path.join(self.path, directories.LOGS)
        try:
            names = os.listdir(place)
        except OSError:
            return []
        names.sort(key=lambda name: (name.startswith("worker"), len(name), name))
        return [os.path.join(place, name) for name in names]

    def stop(self, *, force: bool) -> None:
        """End it, and return when nothing of it is left.

        Only its own processes are signalled: they are known by pid and start time.

        Args:
            force: at once; else tasks may run on for some seconds, and actors' hooks run.

        Raises:
            StopError: it is still there.
        """
        pid = self.supervisor_pid
        node_pid = self.node_pid
        if not pid and not node_pid and not self.facts:
            raise StopError(f"{self.path} says nothing of its processes yet: it is being started; try again")
        for process, which in ((pid, "supervisor"), *(((node_pid, "node"),) if force else ())):
            self._signal(process, which, signal.SIGKILL if force else signal.SIGTERM)
        patience_s = _END_S + (0 if force else DRAIN_S + STOP_S)
        deadline_s = time.monotonic() + patience_s
        while directories.is_held(self.path) or self.supervisor_pid:
            if time.monotonic() > deadline_s:
                left = [str(one) for one in (self.supervisor_pid, self.node_pid) if one]
                raise StopError(
                    f"the session at {self.path} did not end within {patience_s:g} s (what is left: "
                    f"{', '.join(left) or 'unknown'})" + ("" if force else "; end it at once with --force")
                )
            time.sleep(0.01)
        if os.path.lexists(self.path):  # both were killed, and had no time to clean up
            os.close(directories.open_session_dir(self.path))
            directories.remove_session_dir(self.path)

    def _signal(self, pid: int, which: str, number: int) -> None:
        if not pid:
            return
        pidfd = system.open_pidfd(pid)
        try:
            # Only now is it sure that the number is still that process's.
            if self._living(which) == pid:
                system.send_signal(pid, pidfd, number)
        finally:
            if pidfd >= 0:
                os.close(pidfd)


def find(address: str) -> Standing:
    """Return the session that an address means; see `attaching.find_session`.

    Raises:
        SeveralSessionsError: there are several.
        ConnectionError: there is none.
    """
    return Standing(find_session(address))


def find_all(root: str | None = None) -> list[Standing]:
    """Return all that stand on this machine, or in `root`: heads last, as other nodes leave through them."""
    place = directories.runtime_root(root)
    paths = directories.standing_sessions(place)
    return [Standing(path) for path in sorted(paths, key=lambda path: path.endswith(directories.HEAD))]


def last_failure(root: str | None = None) -> str:
    """Return why the last session here has ended, if it did so by itself."""
    return directories.last_failure(directories.runtime_root(root)).strip()


def run(options: Options) -> NoReturn:
    """Become the supervisor of a new session, in the foreground.

    Raises:
        OSError: the interpreter cannot be started.
    """
    command = supervisor.command(options)
    sys.stdout.flush()
    os.execve(command[0], command, supervisor.environment(options))


def start(options: Options) -> dict[str, Any]:
    """Start a session in the background; return its facts once it answers.

    Raises:
        StartError: it did not start, and nothing of it is left.
    """
    return _start(options)[0]


def start_child(options: Options) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    """Like `start`, but the session ends with this process; return its supervisor, which is a child, too."""
    return _start(options._replace(dies_with_parent=True))


def _start(options: Options) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    report_r, report_w = os.pipe()
    with open(report_r, "rb") as report:
        try:
            process = subprocess.Popen(
                supervisor.command(options._replace(report_fd=report_w)),
                env=supervisor.environment(options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                pass_fds=(report_w,),
                start_new_session=True,
            )
        finally:
            os.close(report_w)
        if not options.dies_with_parent:
            process.wait()  # it has forked, and its child is nobody's
        poll = select.poll()
        poll.register(report, select.POLLIN)
        if not poll.poll(START_TIMEOUT_S * 1000):
            raise StartError(f"the session did not answer within {START_TIMEOUT_S:g} s: it is given up")
        line = report.readline()
    outcome: dict[str, Any] = json.loads(line) if line else {"error": "its supervisor died at its start"}
    if "error" in outcome:
        process.wait()
        raise StartError(outcome["error"])
    return outcome, process
