"""The process above a standing session: what `orchestrator start` leaves behind.

It creates the segment and is its first client, starts the node process, and waits:

======================= =============================================================================
what                    what follows
======================= =============================================================================
SIGTERM, SIGINT         the node drains: what runs may finish, actors' hooks run, for a while; all ends
the same once more      all ends at once
the node ends, or dies  all ends; unless it was drained, with exit code 1, and the reason is kept
a companion ends        it is started again (`companion`): what stands beside the node on a head
who it lives with ends  all ends at once: nodes that an autoscaler makes on the machine of its head
this process is killed  the node sees it by pidfd and socket, ends what is below it, and cleans up
======================= =============================================================================

Its facts, `session.json` in the session's directory, name it by pid and start time, so that `orchestrator
stop` signals this process or none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from orchestrator.exceptions import NodeDiedError
from orchestrator.node import launch, spill_dir, system
from orchestrator.node import session_dir as directories
from orchestrator.node.companion import Companion
from orchestrator.node.drivers import DRAINED
from orchestrator.node.founding import Founded, FoundingError

#: What a drain gives to tasks that run.
DRAIN_S = 5.0
#: What the node gets beyond that, for actors' hooks and its own end.
STOP_S = 8.0
#: The variable by which a supervisor hears the join string: it is a secret, and a command line is none.
JOIN_VARIABLE = "ORCHESTRATOR_JOIN"
#: What stands for it on the command line.
_IN_ENVIRONMENT = "in the environment"
#: What a companion gets to end, and how often it is looked after.
COMPANION_GRACE_S = 3.0
LOOK_S = 0.2


class Options(NamedTuple):
    """What `orchestrator start` was asked for."""

    #: Quantities by name, "CPU" among them.
    resources: dict[str, float]
    labels: dict[str, str]
    #: Size of the object store in bytes; None for the store's own default.
    store_bytes: int | None = None
    #: Where sessions live, instead of the usual place; and where objects are spilled to.
    root: str | None = None
    spill_root: str | None = None
    #: End when the process that has started this one does, however it ends: for tests.
    dies_with_parent: bool = False
    #: End when this process does, which need not be the parent: (pid, start time in ticks). (0, 0): none.
    lives_with: tuple[int, int] = (0, 0)
    #: Be a node of a cluster: the fields of `founding.ClusterOptions`. None: this machine alone, no network.
    cluster: dict[str, Any] | None = None
    #: What is kept alive beside the node, from before its start until after its end: (name, command).
    companions: Sequence[tuple[str, list[str]]] = ()
    #: Descriptor to which the outcome of the start is written; -1: to stderr, for people.
    report_fd: int = -1

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Return what `to_json` was made from."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return this as a text for the command line of the supervisor."""
        return json.dumps(self._asdict())


def command(options: Options) -> list[str]:
    """Return the command that runs a supervisor. A join string is not in it, but in `environment`."""
    if options.cluster is not None and options.cluster["join"]:
        options = options._replace(cluster={**options.cluster, "join": _IN_ENVIRONMENT})
    return [
        # A node of a cluster needs libraries, and where they are `site` knows.
        *launch.interpreter(site=options.cluster is not None),
        launch.bootstrap("from orchestrator.node.supervisor import main; main(sys.argv[1])"),
        options.to_json(),
    ]


def environment(options: Options) -> dict[str, str]:
    """Return the variables of a supervisor's process, those of this one among them."""
    found = {
        name: value for name, value in os.environ.items() if name not in (directories.MARK, JOIN_VARIABLE)
    }
    if options.cluster is not None and options.cluster["join"]:
        found[JOIN_VARIABLE] = options.cluster["join"]
    return found


def main(options_json: str) -> NoReturn:
    """Be the supervisor of a session; the entry point of the process."""
    options = Options.from_json(options_json)
    # Nothing below this process, workers least of all, is to know it.
    join = os.environ.pop(JOIN_VARIABLE, "")
    if options.cluster is not None and options.cluster["join"] == _IN_ENVIRONMENT:
        options = options._replace(cluster={**options.cluster, "join": join})
    if options.dies_with_parent:
        system.die_with_parent(os.getppid())
    if options.report_fd >= 0 and not options.dies_with_parent and os.fork():
        os._exit(0)  # in the background it is nobody's child, and so nobody's to wait for
    supervisor = _Supervisor(options)
    try:
        code = supervisor.run()
    except (OSError, ValueError, NodeDiedError, FoundingError) as exc:
        supervisor.report({"error": str(exc)})
        code = 1
    sys.stderr.flush()
    os._exit(code)


class _Supervisor:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._root = directories.runtime_root(options.root)
        joins = options.cluster is not None and options.cluster["join"]
        self._path = os.path.join(self._root, directories.HEAD)
        if joins:
            self._path = directories.new_session_path(options.root)
        self._founded: Founded | None = None
        self._companions: list[Companion] = []
        self._wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        system.unblock_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)

    def run(self) -> int:
        """Start a session, wait for its end, end it; return the exit code."""
        import plasma

        options = self._options
        directories.forget_failure(self._root)
        if directories.is_held(self._path):
            raise OSError(_stands_already(self._path))
        spill_path = spill_dir.choose_path(self._path, options.spill_root)
        session = os.urandom(16).hex()
        info = {
            "session": session,
            "session_dir": self._path,
            "driver_sys_path": [],
            "num_cpus": options.resources["CPU"],
            "labels": options.labels,
            "logging": {},
        }
        with plasma.Store.create(options.store_bytes, name="supervisor", spill_directory=spill_path) as store:
            try:
                node = launch.start_node(
                    store,
                    resources=options.resources,
                    session_dir=self._path,
                    info=info,
                    found=self._found if options.cluster is not None else None,
                )
            except directories.SessionStandsError:
                raise OSError(_stands_already(self._path)) from None
            except BaseException:
                self._stop_companions()
                raise
            finally:
                if self._founded is not None:
                    self._founded.listener.close()
            try:
                spill_dir.link(self._path, spill_path)
                self._start_companions()
                node.wait_hello()
                self._log_to_file()
                head = self._founded.facts["gcs"] if self._founded is not None else ""
                directories.write_facts(self._path, _facts(session, node.pid, head))
                join = self._founded.join if self._founded is not None else ""
                node_id = self._founded.facts["node_id"] if self._founded is not None else ""
                facts = {"session_dir": self._path, "session": session, "pid": os.getpid(), "join": join}
                if not self.report({**facts, "node_id": node_id}):
                    raise OSError("whoever started the session has gone before it answered")
                reason = self._wait(node)
            except BaseException:
                node.kill()
                self._stop_companions()
                raise
            if reason:
                print(f"{time.strftime('%H:%M:%S')} the session ends: {reason}", file=sys.stderr, flush=True)
                directories.note_failure(self._root, f"{reason}{node.log_tail()}")
            node.stop()
            self._stop_companions()
        return 1 if reason else 0

    def _wait(self, node: launch.NodeProcess) -> str:
        """Wait for the session's end; return why it has ended, "" if it was meant to."""
        deadline_s = float("inf")
        draining = False
        owner_pid, owner_ticks = self._options.lives_with
        pidfds = [system.open_pidfd(pid) for pid in (node.pid, owner_pid) if pid]
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        for pidfd in pidfds:
            if pidfd >= 0:
                poll.register(pidfd, select.POLLIN)
        try:
            while node.alive():
                left_s = min(deadline_s - time.monotonic(), LOOK_S if self._companions else 1.0)
                if left_s <= 0 or (owner_pid and system.start_ticks(owner_pid) != owner_ticks):
                    return ""
                poll.poll(left_s * 1000)
                self._watch_companions()
                if self._was_told_to_end():
                    if draining:
                        return ""
                    draining = True
                    node.tell({"op": "drain", "grace_s": DRAIN_S})
                    deadline_s = time.monotonic() + DRAIN_S + STOP_S
        finally:
            for pidfd in pidfds:
                if pidfd >= 0:
                    os.close(pidfd)
        reason = node.end_reason()
        return "" if draining or reason == DRAINED else f"the node process ended: {reason}"

    def _found(self) -> Mapping[str, Any]:
        """Become a node of a cluster; on a head, begin one."""
        from orchestrator.node import founding

        cluster = founding.ClusterOptions(**self._options.cluster or {})
        if cluster.join:
            self._founded = founding.join(cluster, self._path)
        else:
            head = self._companion("head", founding.head_command(cluster, self._path))
            log_path = os.path.join(self._path, directories.LOGS, "head.log")
            self._founded = founding.found(cluster, self._path, log_path, lambda: head.alive())
            # Where it was found by others they will look for it again, whoever had chosen the port.
            port = int(self._founded.facts["gcs"].rpartition(":")[2])
            head.begin_again_with(founding.head_command(cluster._replace(port=port), self._path))
        return self._founded.facts

    def _companion(self, name: str, command: Sequence[str]) -> Companion:
        log_path = os.path.join(self._path, directories.LOGS, f"{name}.log")
        companion = Companion(name, command, log_path, {directories.MARK: self._path})
        self._companions.append(companion)
        companion.start(time.monotonic())
        return companion

    def _start_companions(self) -> None:
        for name, command in self._options.companions:
            self._companion(name, command)

    def _watch_companions(self) -> None:
        for companion in self._companions:
            said = companion.tick(time.monotonic())
            if said:
                print(f"{time.strftime('%H:%M:%S')} {said}", file=sys.stderr, flush=True)

    def _stop_companions(self) -> None:
        for companion in reversed(self._companions):
            companion.stop(COMPANION_GRACE_S)

    def _was_told_to_end(self) -> bool:
        try:
            return any(number in (signal.SIGTERM, signal.SIGINT) for number in os.read(self._wake_r, 64))
        except BlockingIOError:
            return False

    # ------------------------------------------------------------ what it says

    def report(self, outcome: Mapping[str, Any]) -> bool:
        """Tell whoever has started this process what became of that, once. False: nobody listens any more."""
        fd = self._options.report_fd
        if fd < 0:
            text = outcome.get("error") or f"a session stands at {outcome['session_dir']} (pid {os.getpid()})"
            print(text, file=sys.stderr, flush=True)
            return True
        try:
            os.write(fd, json.dumps(outcome).encode() + b"\n")
            os.close(fd)
        except OSError:
            return False
        return True

    def _log_to_file(self) -> None:
        """In the background: write to a file of the session's from now on."""
        if self._options.report_fd < 0:
            return
        path = os.path.join(self._path, directories.LOGS, "supervisor.log")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for target in (1, 2):
            os.dup2(fd, target)
        os.close(fd)


def _facts(session: str, node_pid: int, head: str) -> dict[str, Any]:
    from orchestrator import __version__

    return {
        "session": session,
        "version": __version__,
        "supervisor": [os.getpid(), system.start_ticks(os.getpid())],
        "node": [node_pid, system.start_ticks(node_pid)],
        "began_s": time.time(),
        "head": head,
    }


def _stands_already(path: str) -> str:
    return (
        f"a session stands already at {path}: attach to it with init(address={path!r}), end it with "
        f"`orchestrator stop --address {path}`, or start another one elsewhere with --temp-dir"
    )
