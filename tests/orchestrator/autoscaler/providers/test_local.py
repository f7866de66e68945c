"""Real processes: what they run is a shell that waits, in place of a node."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.providers.local import JOIN_VARIABLE, LocalProvider, start_command
from orchestrator.autoscaler.providers.provider import ProviderError
from orchestrator.autoscaler.reconciler import INSTANCE_LABEL
from orchestrator.autoscaler.testing import check_provider
from orchestrator.common.resources import ResourceSet
from tests.waiting import until

SMALL = NodeType("small", ResourceSet.from_floats({"CPU": 2}), labels={"zone": "a"})


def waits(request: str, node_type: NodeType) -> list[str]:
    return ["/bin/sleep", "1000"]


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
            await provider.close()

    asyncio.run(whole())


def test_it_does_what_every_provider_has_to_do() -> None:
    async def test(provider: LocalProvider) -> None:
        await check_provider(provider, SMALL, "lab")

    run(test, LocalProvider("lab", waits))


def test_a_process_that_ends_is_not_shown_any_more(tmp_path: Path) -> None:
    async def test(provider: LocalProvider) -> None:
        await provider.launch("r1", SMALL)
        while await provider.machines():
            await asyncio.sleep(0.01)
        assert (tmp_path / "logs" / "node-r1.log").read_text() == "no room\n"

    command = ["/bin/sh", "-c", "echo no room; exit 3"]
    run(test, LocalProvider("lab", lambda *_: command, log_dir=str(tmp_path / "logs")))


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.autoscaler.providers.local.GRACE_S", 0.05)

    async def test(provider: LocalProvider) -> None:
        await provider.launch("r1", SMALL)
        (one,) = await provider.machines()
        pid = int(one.provider_id.rpartition("-")[2])
        while "trap" not in Path(f"/proc/{pid}/cmdline").read_text():
            await asyncio.sleep(0.01)
        await provider.close()
        assert not is_alive(pid) and not await provider.machines()

    run(test, LocalProvider("lab", lambda *_: ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]))


def test_a_command_that_is_not_there_is_a_clear_error() -> None:
    async def test(provider: LocalProvider) -> None:
        with pytest.raises(ProviderError, match=r"could not be started: .*no-such-program"):
            await provider.launch("r1", SMALL)

    run(test, LocalProvider("lab", lambda *_: ["no-such-program"]))


def test_nodes_die_with_the_process_that_has_started_them() -> None:
    code = """
import asyncio, sys
from orchestrator.autoscaler.providers.local import LocalProvider
from tests.orchestrator.autoscaler.providers.test_local import SMALL, waits

async def main():
    provider = LocalProvider("lab", waits)
    await provider.launch("r1", SMALL)
    print((await provider.machines())[0].provider_id, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline().strip().rpartition("-")[2])
        assert is_alive(child)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()
    until(lambda: not is_alive(child))


def test_the_command_of_a_node() -> None:
    kind = NodeType("big", ResourceSet.from_floats({"CPU": 2, "GPU": 1, "disk": 3}), labels={"zone": "a"})
    line = start_command("r1", kind)
    assert line[1:8] == ["-m", "orchestrator", "start", "--block", "--num-cpus", "2", "--num-gpus"]
    assert line[8:] == [
        "1",
        "--resources",
        '{"disk": 3.0}',
        "--labels",
        f'{{"zone": "a", "{INSTANCE_LABEL}": "r1"}}',
    ]
    assert JOIN_VARIABLE not in " ".join(line)
