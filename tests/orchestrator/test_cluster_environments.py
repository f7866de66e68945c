"""Runtime environments on nodes other than the one where they were asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator as ray
from orchestrator.cluster_utils import Cluster, ClusterNode
from orchestrator.environments import resolved as environments
from orchestrator.exceptions import RuntimeEnvSetupError
from orchestrator.runtime_env import RuntimeEnv
from tests.waiting import until

THERE = {"resources": {"there": 1}, "num_cpus": 0}
BIG = 3_000_000


@pytest.fixture(scope="module")
def there() -> Iterator[ClusterNode]:
    """A node that is not the driver's."""
    with Cluster(initialize_head=True, connect=True) as cluster:
        made = cluster.add_node(resources={"there": 100})
        cluster.wait_for_nodes()
        yield made


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "data" / "big.bin").write_bytes(os.urandom(BIG))
    (tmp_path / "project" / "settings.py").write_text("NAME = 'project'\n")
    (tmp_path / "project" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "project" / "run.sh").chmod(0o755)
    (tmp_path / "project" / "linked.py").symlink_to("settings.py")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("VALUE = 7\n")
    return tmp_path


@ray.remote(**THERE)
def look() -> dict[str, Any]:
    import subprocess

    import settings  # type: ignore[import-not-found]
    import tool  # type: ignore[import-not-found]

    return {
        "cwd": os.getcwd(),
        "settings": settings.NAME,
        "linked": os.readlink("linked.py"),
        "big": Path("data/big.bin").read_bytes(),
        "ran": subprocess.run(["./run.sh"], capture_output=True, text=True, check=True).stdout,
        "tool": (tool.VALUE, tool.__file__),
        "variable": os.environ["COLOUR"],
        "hooked": os.environ["HOOKED"],
    }


def hook() -> None:
    os.environ["HOOKED"] = "yes"


def test_what_an_environment_names_is_brought_to_the_node(there: ClusterNode, sources: Path) -> None:
    env = {
        "working_dir": str(sources / "project"),
        "py_modules": [str(sources / "tool")],
        "env_vars": {"COLOUR": "blue"},
        "worker_process_setup_hook": hook,
    }
    seen = ray.get(look.options(runtime_env=env).remote(), timeout=60)
    assert seen["cwd"].startswith(there.address) and seen["tool"][1].startswith(there.address)
    assert seen["settings"] == "project" and seen["linked"] == "settings.py"
    assert seen["big"] == (sources / "project" / "data" / "big.bin").read_bytes()
    assert seen["ran"] == "ran\n" and seen["tool"][0] == 7
    assert (seen["variable"], seen["hooked"]) == ("blue", "yes")


def test_actors_and_what_tasks_submit_there_have_it_too(there: ClusterNode) -> None:
    @ray.remote
    class Painter:
        def colours(self) -> tuple[str, str]:
            return os.environ["COLOUR"], ray.get(inner.remote())

    @ray.remote(num_cpus=0)
    def inner() -> str:
        return os.environ["COLOUR"] + os.environ.get("SHADE", "")

    @ray.remote(**THERE)
    def outer() -> str:
        # Described there, and needed where the driver is.
        home = {"resources": {"node:__internal_head__": 0.001}, "num_cpus": 0}
        return ray.get(inner.options(runtime_env={"env_vars": {"SHADE": "ish"}}, **home).remote())

    env = {"env_vars": {"COLOUR": "red"}}
    painter = Painter.options(runtime_env=env, **THERE).remote()
    assert ray.get(painter.colours.remote(), timeout=60) == ("red", "red")
    assert ray.get(outer.options(runtime_env=env).remote(), timeout=60) == "redish"


def test_what_is_there_already_is_not_brought_again(there: ClusterNode, sources: Path) -> None:
    def packages() -> int:
        return sum(name.startswith("package-") for name in os.listdir(f"{there.address}/environments"))

    @ray.remote(**THERE)
    def cwd() -> str:
        return os.getcwd()

    first = {"working_dir": str(sources / "project")}
    found = ray.get(cwd.options(runtime_env=first).remote(), timeout=60)
    count = packages()
    second = {**first, "env_vars": {"A": "1"}}
    assert ray.get(cwd.options(runtime_env=second).remote(), timeout=60) == found
    assert packages() == count
    left = [name for name in os.listdir(f"{there.address}/environments") if name.startswith("arriving")]
    assert not left


def test_an_environment_that_does_not_work_there_is_an_error_with_node_and_reason(
    there: ClusterNode,
) -> None:
    def fail() -> None:
        raise RuntimeError("no such colour")

    @ray.remote(**THERE)
    def run() -> None: ...

    with pytest.raises(RuntimeEnvSetupError, match=rf"(?s)no such colour.*on node {there.node_id}"):
        ray.get(run.options(runtime_env={"worker_process_setup_hook": fail}).remote(), timeout=60)


def test_a_description_that_nobody_has_is_an_error(there: ClusterNode) -> None:
    from orchestrator.api.session import ensure_runtime

    env = RuntimeEnv(env_vars={"COLOUR": "lost"})
    runtime = ensure_runtime()
    key = runtime.environment.key_for(env)
    os.unlink(environments.path_of(key, runtime.info["session_dir"]))

    @ray.remote(**THERE)
    def run() -> None: ...

    with pytest.raises(RuntimeEnvSetupError, match=r"no node has it.*it is not described there"):
        ray.get(run.options(runtime_env={"env_vars": {"COLOUR": "lost"}}).remote(), timeout=60)


def test_a_program_s_directory_that_the_other_machine_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray.shutdown()
    project = tmp_path / "project"
    project.mkdir()
    (project / "helper_of_mine.py").write_text("ANSWER = 42\n")
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    with Cluster(initialize_head=True, connect=True) as cluster:
        os.chdir(tmp_path)
        project.rename(tmp_path / "moved")  # as if the next node were another machine
        cluster.add_node(resources={"there": 100})

        @ray.remote(**THERE)
        def use() -> int:
            import helper_of_mine  # type: ignore[import-not-found]

            return int(helper_of_mine.ANSWER)

        with pytest.raises(ModuleNotFoundError, match=rf"does not have {project}, from which the driver"):
            ray.get(use.remote(), timeout=60)
        said = ""

        def heard() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "where this program is or imports from" in said

        until(heard)
        assert f"does not have {project}" in said and "runtime_env={'working_dir'" in said
        env = {"working_dir": str(tmp_path / "moved")}
        assert ray.get(use.options(runtime_env=env).remote(), timeout=60) == 42
