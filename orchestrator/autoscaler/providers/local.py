"""Nodes as processes of this machine, for a cluster on one machine and for tests.

Each machine is a child process that runs a node in the foreground. It gets SIGTERM, and SIGKILL if it is
still there after `GRACE_S`; it dies with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.providers.provider import ProviderError
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL, ProviderInstance
from orchestrator.node.system import die_with_parent

#: From SIGTERM to SIGKILL.
GRACE_S = 5.0
#: The variable by which `orchestrator start` hears the join string: it is a secret, a command line is none.
JOIN_VARIABLE = "ORCHESTRATOR_JOIN"


def start_command(request: str, node_type: NodeType) -> list[str]:
    """Return the command line of a node that joins the cluster of `JOIN_VARIABLE`."""
    have = node_type.resources.to_floats()
    line = [sys.executable, "-m", "orchestrator", "start", "--block"]
    line += ["--num-cpus", f"{have.pop('CPU', 0):g}", "--num-gpus", f"{have.pop('GPU', 0):g}"]
    if have:
        line += ["--resources", json.dumps(have)]
    labels = {**node_type.labels, INSTANCE_LABEL: request}
    return [*line, "--labels", json.dumps(labels)]


class LocalProvider:
    """See the module's text.

    Args:
        cluster: the name of the cluster.
        command: what makes the command line of a node, from a request and a type of node.
        environment: variables of the processes, `JOIN_VARIABLE` among them; None for those of this one.
        log_dir: where the output of each node goes, a file for each; None: nowhere.
    """

    def __init__(
        self,
        cluster: str,
        command: Callable[[str, NodeType], list[str]] = start_command,
        *,
        environment: Mapping[str, str] | None = None,
        log_dir: str | None = None,
    ) -> None:
        self._cluster = cluster
        self._command = command
        self._environment = None if environment is None else dict(environment)
        self._log_dir = log_dir
        self._numbers = itertools.count(1)
        #: By provider id: the process, its request, its type.
        self._children: dict[str, tuple[asyncio.subprocess.Process, str, str]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def launch(self, request: str, node_type: NodeType) -> None:
        """Start the process of a node.

        Raises:
            ProviderError: it could not be started.
        """
        if any(request == known for _, known, _ in self._children.values()):
            return
        me = os.getpid()
        output = self._open_log(request)
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command(request, node_type),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(me),
            )
        except OSError as exc:
            raise ProviderError(f"a node process could not be started: {exc}") from exc
        finally:
            if output != asyncio.subprocess.DEVNULL:
                os.close(output)
        self._children[f"local-{next(self._numbers)}-{child.pid}"] = (child, request, node_type.name)

    def _open_log(self, request: str) -> int:
        if self._log_dir is None:
            return asyncio.subprocess.DEVNULL
        try:
            os.makedirs(self._log_dir, mode=0o700, exist_ok=True)
            path = os.path.join(self._log_dir, f"node-{request}.log")
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ProviderError(f"there is no place for a node's log: {exc}") from exc

    async def terminate(self, provider_id: str) -> None:
        """Begin to end a process: it is shown until it is gone."""
        found = self._children.get(provider_id)
        if found is not None and provider_id not in self._ending:
            self._ending[provider_id] = asyncio.create_task(self._end(provider_id, found[0]))

    async def _end(self, provider_id: str, child: asyncio.subprocess.Process) -> None:
        try:
            if child.returncode is None:
                child.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(child.wait(), GRACE_S)
                except asyncio.TimeoutError:
                    child.kill()
            await child.wait()
        except ProcessLookupError:
            pass
        finally:
            self._children.pop(provider_id, None)
            self._ending.pop(provider_id, None)

    async def machines(self) -> Sequence[ProviderInstance]:
        """Return the processes that live."""
        for provider_id, (child, _, _) in list(self._children.items()):
            if child.returncode is not None and provider_id not in self._ending:
                del self._children[provider_id]
        return [
            ProviderInstance(provider_id, request, self._cluster, node_type, is_running=True)
            for provider_id, (_, request, node_type) in self._children.items()
        ]

    async def close(self) -> None:
        """End all processes: they can't live without this one."""
        for provider_id in list(self._children):
            await self.terminate(provider_id)
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
