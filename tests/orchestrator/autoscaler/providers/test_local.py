"""Real processes: what they run is a shell that waits, in place of a node."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.autoscaler.config import ConfigError, NodeType
from orchestrator.autoscaler.files import check
from orchestrator.autoscaler.providers import ClusterFacts
from orchestrator.autoscaler.providers.local import LocalProvider, Machine, node_options
from orchestrator.autoscaler.providers.provider import ProviderError
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL
from orchestrator.autoscaler.testing import check_provider
from orchestrator.common.resources import ResourceSet
from orchestrator.node import supervisor
from tests.waiting import until

SMALL = NodeType("small", ResourceSet.from_floats({"CPU": 2}), labels={"zone": "a"})


def make(place: Path, command: Callable[[str, NodeType], list[str]]) -> LocalProvider:
    return LocalProvider("lab", command, str(place / "nodes"))


def waits(request: str, node_type: NodeType) -> list[str]:
    return ["/bin/sleep", "1000"]


def pid_of(place: Path, request: str) -> int:
    pid: int = json.loads((place / "nodes" / f"{request}.json").read_text())["pid"]
    return pid


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(test: Callable[[LocalProvider], object], provider: LocalProvider) -> None:
    async def whole() -> None:
        try:
            await test(provider)  # type: ignore[misc]
        finally:
            for one in await provider.machines():
                await provider.terminate(one.provider_id)
            while await provider.machines():
                await asyncio.sleep(0.01)
            await provider.close()

    asyncio.run(whole())


def test_it_does_what_every_provider_has_to_do(tmp_path: Path) -> None:
    async def test(provider: LocalProvider) -> None:
        await check_provider(provider, SMALL, "lab")

    run(test, make(tmp_path, waits))


def test_a_process_that_ends_is_not_shown_any_more(tmp_path: Path) -> None:
    async def test(provider: LocalProvider) -> None:
        await provider.launch("r1", SMALL)
        while await provider.machines():
            await asyncio.sleep(0.01)
        assert (tmp_path / "nodes" / "r1.log").read_text() == "no room\n"

    command = ["/bin/sh", "-c", "echo no room; exit 3"]
    run(test, make(tmp_path, lambda *_: command))


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.autoscaler.providers.local.GRACE_S", 0.05)

    async def test(provider: LocalProvider) -> None:
        await provider.launch("r1", SMALL)
        (one,) = await provider.machines()
        pid = pid_of(tmp_path, "r1")
        while not (tmp_path / "nodes" / "r1.log").read_text():
            await asyncio.sleep(0.01)
        await provider.terminate(one.provider_id)
        while await provider.machines():
            await asyncio.sleep(0.01)
        assert not is_alive(pid)

    run(
        test,
        make(tmp_path, lambda *_: ["/bin/sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.1; done"]),
    )


def test_a_command_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    async def test(provider: LocalProvider) -> None:
        with pytest.raises(ProviderError, match=r"could not be started: .*no-such-program"):
            await provider.launch("r1", SMALL)

    run(test, make(tmp_path, lambda *_: ["no-such-program"]))


def test_who_comes_after_it_knows_what_it_has_started(tmp_path: Path) -> None:
    async def first(provider: LocalProvider) -> None:
        await provider.launch("r1", SMALL)
        await provider.close()
        pid = pid_of(tmp_path, "r1")
        again = make(tmp_path, waits)
        try:
            (one,) = await again.machines()
            assert (one.request, one.node_type, one.is_running) == ("r1", "small", True)
            await again.launch("r1", SMALL)
            assert pid_of(tmp_path, "r1") == pid
        finally:
            await again.terminate("local-r1")
            while await again.machines():
                await asyncio.sleep(0.01)
            await again.close()

    run(first, make(tmp_path, waits))
    assert not list((tmp_path / "nodes").glob("*.json"))


KILLED = """
import asyncio, os, signal, sys
from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.providers.local import LocalProvider
from orchestrator.common.resources import ResourceSet

class Killed(LocalProvider):
    def _write(self, request, machine):
        print(machine.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

place, program = sys.argv[1:]
provider = Killed("lab", lambda *_: ["/bin/sh", "-c", program], place)
asyncio.run(provider.launch("r1", NodeType("small", ResourceSet())))
"""


def test_a_process_that_nobody_knows_of_is_none(tmp_path: Path) -> None:
    """The head is killed after it has started a process and before that is written down."""
    program = f"touch {tmp_path}/began; sleep 1000"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "nodes"), program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    until(lambda: not is_alive(int(done.stdout)))
    assert not (tmp_path / "began").exists()


def test_what_can_t_be_written_down_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: LocalProvider, request: str, machine: Machine) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(LocalProvider, "_write", full)

    async def test(provider: LocalProvider) -> None:
        with pytest.raises(ProviderError, match=r"could not be started: the disk is full"):
            await provider.launch("r1", SMALL)
        while provider._children:
            assert not await provider.machines()
            await asyncio.sleep(0.01)

    run(test, make(tmp_path, waits))


def test_how_a_node_is_started() -> None:
    kind = NodeType(
        "big",
        ResourceSet.from_floats({"CPU": 2, "GPU": 1, "disk": 3}),
        labels={"zone": "a"},
        node_config={"object_store_memory": 1 << 24},
    )
    facts = ClusterFacts("orc1:secret", "/run/orchestrator-1/session-head", 7)
    options = node_options("r1", kind, facts, (7, 77))
    assert options.resources == {"CPU": 2, "GPU": 1, "disk": 3}
    assert options.labels == {"zone": "a", INSTANCE_LABEL: "r1"}
    assert (options.root, options.store_bytes, options.lives_with) == ("/run", 1 << 24, (7, 77))
    assert "secret" not in " ".join(supervisor.command(options))
    assert supervisor.environment(options)[supervisor.JOIN_VARIABLE] == "orc1:secret"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"provider": {"type": "cloud"}}, "provider.type: must be one of 'local', not 'cloud'"),
        ({"provider": {"type": "local", "zone": 1}}, "provider.zone: there is no such setting"),
        ({"node_config": {"disk": 1}}, r"small.node_config.disk: there is no such setting"),
        ({"node_config": {"object_store_memory": "1g"}}, "must be 1 MiB or more, in bytes, not '1g'"),
    ],
)
def test_what_it_does_not_understand_is_said(more: dict[str, object], said: str) -> None:
    kind = {"resources": {"CPU": 1}, "node_config": more.pop("node_config", {})}
    with pytest.raises(ConfigError, match=said):
        check({"available_node_types": {"small": kind}, **more})
