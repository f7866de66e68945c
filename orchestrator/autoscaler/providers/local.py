"""Nodes as processes of this machine, for a cluster on one machine and for tests.

Each machine is a process that runs a node in the foreground. It gets SIGTERM, and SIGKILL if it is still
there after `GRACE_S`. What was started is written down, a file for each machine, with pid and start time: so
a head that is started anew knows the processes of the one before. None begins to be a node before that is
done, and one whose head dies first ends at once (`_GUARD`): there is no node that nobody knows of. They end
when the supervisor of the head does.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.autoscaler.config import AutoscalerConfig, ConfigError, NodeType
from orchestrator.autoscaler.providers import ClusterFacts
from orchestrator.autoscaler.providers.provider import ProviderError
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL, ProviderInstance
from orchestrator.node import supervisor, system
from orchestrator.node.founding import ClusterOptions
from orchestrator.node.session_dir import MARK

#: From SIGTERM to SIGKILL: a node gets some seconds for what runs, and for hooks.
GRACE_S = 15.0
#: How often is looked whether a process has ended.
LOOK_S = 0.05
#: What `node_config` may say: bytes of the object store.
STORE_BYTES = "object_store_memory"
#: What a node gets unless it is told otherwise: many share one machine.
STORE_BYTES_DEFAULT = 256 << 20
#: Where the machines of a head are written down, and their logs.
PLACE = "local-nodes"

Command = Callable[[str, NodeType], list[str]]

#: Waits for a word on its standard input, or its end, and then is what follows on the command line, or ends.
_GUARD = (
    sys.executable,
    "-S",
    "-c",
    """
import os, sys
os.read(0, 1) or os._exit(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.closerange(3, 1024)
os.execvp(sys.argv[1], sys.argv[1:])
""",
)


class Machine(NamedTuple):
    """A process that was started."""

    pid: int
    #: When it was started, in the kernel's ticks: another process may have its pid by now. 0: it has ended.
    ticks: int
    node_type: str

    @property
    def is_alive(self) -> bool:
        """Tell whether it is still there."""
        return self.ticks > 0 and system.start_ticks(self.pid) == self.ticks


class LocalProvider:
    """See the module's text.

    Args:
        cluster: the name of the cluster.
        command: what makes the command line of a node, from a request and a type of node.
        place: the directory where machines are written down, and their logs lie; made if it is not there.
        environment: variables of the processes; None for those of this one.
    """

    def __init__(
        self, cluster: str, command: Command, place: str, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._cluster = cluster
        self._command = command
        self._place = place
        self._environment = None if environment is None else dict(environment)
        self._machines = self._read()
        #: Pids of processes that this one has started and not reaped, by request.
        self._children: dict[str, int] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    def _read(self) -> dict[str, Machine]:
        found = {}
        try:
            names = os.listdir(self._place)
        except OSError:
            names = []
        for name in names:
            request, _, ending = name.rpartition(".")
            try:
                if ending == "json":
                    with open(os.path.join(self._place, name), encoding="utf-8") as file:
                        found[request] = Machine(**json.load(file))
            except (OSError, ValueError, TypeError):
                pass  # of a head that was killed while it wrote
        return found

    async def launch(self, request: str, node_type: NodeType) -> None:
        """Start the process of a node.

        Raises:
            ProviderError: it could not be started.
        """
        if request in self._machines:
            return
        command = self._command(request, node_type)
        if shutil.which(command[0]) is None:
            raise ProviderError(f"a node process could not be started: there is no {command[0]}")
        try:
            os.makedirs(self._place, mode=0o700, exist_ok=True)
            path = os.path.join(self._place, f"{request}.log")
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ProviderError(f"there is no place for a node's log: {exc}") from exc
        word_r, word_w = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [*_GUARD, *command],
                os.environ if self._environment is None else self._environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((word_r, 0), (log, 1), (log, 2))],
                setsid=True,
            )
            self._children[request] = pid
            machine = Machine(pid, system.start_ticks(pid), node_type.name)
            self._write(request, machine)
            self._machines[request] = machine
            os.write(word_w, b"!")
        except OSError as exc:
            raise ProviderError(f"a node process could not be started: {exc}") from exc
        finally:
            for fd in (log, word_r, word_w):
                os.close(fd)

    def _reap(self) -> None:
        """Have children that have ended be gone: one that nobody has asked about looks alive."""
        for request, pid in list(self._children.items()):
            try:
                is_gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                is_gone = True
            if is_gone:
                del self._children[request]

    def _write(self, request: str, machine: Machine) -> None:
        path = os.path.join(self._place, f"{request}.json")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(machine._asdict(), file)
        os.replace(file.name, path)

    async def terminate(self, provider_id: str) -> None:
        """Begin to end a process: it is shown until it is gone."""
        request = provider_id.removeprefix("local-")
        machine = self._machines.get(request)
        if machine is not None and request not in self._ending:
            self._ending[request] = asyncio.create_task(self._end(request, machine))

    async def _end(self, request: str, machine: Machine) -> None:
        try:
            for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, float("inf"))):
                pidfd = system.open_pidfd(machine.pid)
                try:
                    if not machine.is_alive:  # only now is it sure that the pid is still its own
                        return
                    system.send_signal(machine.pid, pidfd, number)
                finally:
                    if pidfd >= 0:
                        os.close(pidfd)
                waited_s = 0.0
                while machine.is_alive and waited_s < grace_s:
                    await asyncio.sleep(LOOK_S)
                    waited_s += LOOK_S
                    self._reap()
        finally:
            self._ending.pop(request, None)

    async def machines(self) -> Sequence[ProviderInstance]:
        """Return the processes that live."""
        self._reap()
        for request, machine in list(self._machines.items()):
            if not machine.is_alive:
                del self._machines[request]
                try:
                    os.unlink(os.path.join(self._place, f"{request}.json"))
                except OSError:
                    pass
        return [
            ProviderInstance(f"local-{request}", request, self._cluster, machine.node_type, is_running=True)
            for request, machine in self._machines.items()
        ]

    async def close(self) -> None:
        """Let go: the processes live on, and end with the supervisor of the head."""
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------- nodes of a real cluster


def check(config: AutoscalerConfig) -> None:
    """Raise `ConfigError` for what this provider does not understand."""
    unknown = sorted(set(config.provider) - {"type"})
    if unknown:
        raise ConfigError(f"provider.{unknown[0]}: there is no such setting of the provider 'local'")
    for name, one in config.node_types.items():
        where = f"available_node_types.{name}.node_config"
        for key, value in one.node_config.items():
            if key != STORE_BYTES:
                raise ConfigError(f"{where}.{key}: there is no such setting; known is {STORE_BYTES}")
            if type(value) is not int or value < 1 << 20:
                raise ConfigError(f"{where}.{key}: must be 1 MiB or more, in bytes, not {value!r:.100}")


def make(config: AutoscalerConfig, facts: ClusterFacts) -> LocalProvider:
    """Return the provider of a cluster whose head runs on this machine."""
    lives_with = (facts.supervisor_pid, system.start_ticks(facts.supervisor_pid))

    def options(request: str, node_type: NodeType) -> supervisor.Options:
        return node_options(request, node_type, facts, lives_with)

    return LocalProvider(
        config.cluster_name,
        lambda request, node_type: supervisor.command(options(request, node_type)),
        os.path.join(facts.session_dir, PLACE),
        environment={
            **{name: value for name, value in os.environ.items() if name != MARK},
            supervisor.JOIN_VARIABLE: facts.join,
        },
    )


def node_options(
    request: str, node_type: NodeType, facts: ClusterFacts, lives_with: tuple[int, int]
) -> supervisor.Options:
    """Return how the node of a request is started."""
    return supervisor.Options(
        resources={"CPU": 0.0, **node_type.resources.to_floats()},
        labels={**node_type.labels, INSTANCE_LABEL: request},
        store_bytes=node_type.node_config.get(STORE_BYTES, STORE_BYTES_DEFAULT),
        # Sessions live side by side, the head's among them.
        root=os.path.dirname(os.path.dirname(facts.session_dir)),
        lives_with=lives_with,
        cluster=ClusterOptions(facts.join, "127.0.0.1", trusted=facts.trusted)._asdict(),
    )
