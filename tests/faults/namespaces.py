"""A cluster whose nodes have machines of their own as far as the network knows: one namespace each.

    bridge ─┬─ veth ── namespace 1: head's node, and the head
            ├─ veth ── namespace 2: a node
            └─ ...

A driver must be `inside` the namespace of its node: the bells of the store are abstract Unix sockets, and
those are the namespace's.
"""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.node import standing
from orchestrator.node.founding import ClusterOptions
from orchestrator.node.standing import Standing

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@functools.cache
def why_not() -> str:
    """Return why there can be no namespaces here; "" if there can."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "no `ip` or `tc` (package iproute2)"
    try:
        with Network(1) as network, network.inside(1):
            pass
    except OSError as error:
        return f"the kernel lets this user make no network namespaces: {error}"
    return ""


class Network:
    """A bridge, and a namespace for each node, counted from 1.

    Raises:
        OSError: the kernel forbids it.
    """

    def __init__(self, count: int) -> None:
        tag = f"orc{secrets.token_hex(3)}"
        #: The namespace of the bridge: then everything has one, and can be named from everywhere.
        self._hub = f"{tag}b"
        self._names = [f"{tag}n{number}" for number in range(1, count + 1)]
        self._outer = [f"{tag}v{number}" for number in range(1, count + 1)]
        #: Of the addresses: a number that no other network of this machine is likely to have.
        self._subnet = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"

    def __enter__(self) -> Network:
        try:
            _ip("netns", "add", self._hub)
            _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "bridge", "up")
            for number, (name, outer) in enumerate(zip(self._names, self._outer, strict=True), 1):
                _ip("netns", "add", name)
                veth = ["type", "veth", "peer", "name", "eth0", "netns", name]
                _ip("-n", self._hub, "link", "add", outer, *veth)
                _ip("-n", self._hub, "link", "set", outer, "master", "bridge", "up")
                _ip("-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self._names, self._hub):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def address(self, number: int) -> str:
        """Return the address of a node's machine."""
        return f"{self._subnet}.{number}"

    @contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """What this thread starts meanwhile is born in a node's namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self._names[number - 1]}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _set_namespace(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)

    # ------------------------------------------------------------ what happens to it

    def cut(self, number: int) -> None:
        """From now on nothing reaches this node, and nothing comes from it."""
        _ip("-n", self._hub, "link", "set", self._outer[number - 1], "down")

    def heal(self, number: int) -> None:
        """Undo `cut`."""
        _ip("-n", self._hub, "link", "set", self._outer[number - 1], "up")

    def spoil(self, number: int, *how: str) -> None:
        """Have what reaches a node and comes from it delayed, lost, repeated.

        Args:
            how: the words of `tc` for a queueing discipline: "netem", "loss", "3%".

        Raises:
            OSError: the kernel does not have it.
        """
        command = ["qdisc", "replace", "dev"]
        for words in (
            ["tc", "-n", self._hub, *command, self._outer[number - 1], "root", *how],
            ["tc", "-n", self._names[number - 1], *command, "eth0", "root", *how],
        ):
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


class NetworkedCluster:
    """A node in each namespace of a network; the first has the head."""

    def __init__(
        self, network: Network, cpus: list[int], *, storage: str = "", trusted: bool = False
    ) -> None:
        self.network = network
        self._root = tempfile.mkdtemp(prefix="orchestrator-network-")
        self._supervisors: list[subprocess.Popen[bytes]] = []
        #: The nodes' sessions, the head's first.
        self.nodes: list[Standing] = []
        self.node_ids: list[str] = []
        join = ""
        try:
            for number, num_cpus in enumerate(cpus, 1):
                cluster = ClusterOptions(join, network.address(number), 0, storage, trusted)
                with network.inside(number):
                    facts, supervisor = standing.start_child(
                        standing.Options(
                            resources={"CPU": float(num_cpus), f"node{number}": 100.0},
                            labels={},
                            store_bytes=256 << 20,
                            root=self._root,
                            cluster=cluster._asdict(),
                        )
                    )
                self._supervisors.append(supervisor)
                self.nodes.append(Standing(facts["session_dir"]))
                self.node_ids.append(facts["node_id"])
                join = join or _join_of(facts)
        except BaseException:
            self.close()
            raise

    @property
    def supervisor_pids(self) -> list[int]:
        return [process.pid for process in self._supervisors]

    def ended(self, number: int) -> bool:
        """Tell whether a node's supervisor has ended."""
        return self._supervisors[number - 1].poll() is not None

    def log(self, number: int) -> str:
        """Return the log of a node's process, or what is left of it."""
        try:
            with open(
                os.path.join(self.nodes[number - 1].path, "logs", "node.log"), encoding="utf-8"
            ) as file:
                return file.read()
        except OSError:
            return ""

    def close(self) -> None:
        """End all nodes."""
        for node, supervisor in reversed(list(zip(self.nodes, self._supervisors, strict=True))):
            reaper = threading.Thread(target=supervisor.wait, name="network-reaper")
            reaper.start()
            node.stop(force=True)
            reaper.join()
        shutil.rmtree(self._root, ignore_errors=True)

    def __enter__(self) -> NetworkedCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _join_of(facts: dict[str, Any]) -> str:
    return str(facts["join"])


def _set_namespace(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
