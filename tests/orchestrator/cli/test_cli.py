"""The command line, as an operator uses it: real processes, and a session of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import orchestrator as ray
from orchestrator.cli.common import FAILED, NO_SESSION
from orchestrator.node.session_dir import open_session_dir
from orchestrator.node.standing import Standing, find_all
from tests.waiting import until

WRONG = 2  # click's own

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *words]


@pytest.fixture
def run(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command; whatever it has begun is ended with the test, and nothing is left."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("ORCHESTRATOR_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    def call(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command(*words), capture_output=True, text=True, timeout=100, cwd=tmp_path)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    yield call
    ray.shutdown()
    call("stop", "--force")
    assert not (tmp_path / "orchestrator").exists()


@pytest.fixture
def started(run: Run) -> Run:
    """A session has been begun."""
    run("start", "--local", "--num-cpus", "2", "--object-store-memory", str(256 << 20))
    return run


def standing(tmp_path: Path) -> Standing:
    return Standing(str(tmp_path / "orchestrator" / "session-head"))


@ray.remote
def double(x):
    return 2 * x


@ray.remote
class Holder:
    def hold(self, x):
        return x


class TestStartAndStop:
    def test_from_the_first_to_the_last_command(self, run: Run, tmp_path: Path) -> None:
        said = run(
            "start", "--local", "--num-cpus", "3", "--resources", '{"slots": 4}', "--labels", '{"zone": "a"}'
        ).stdout
        assert "init(address=" in said and "orchestrator stop" in said
        with ray.init(address="auto"):
            assert ray.get(double.remote(2)) == 4
            assert ray.cluster_resources()["CPU"] == 3 and ray.cluster_resources()["slots"] == 4
            assert ray.nodes()[0]["Labels"]["zone"] == "a"
        session = standing(tmp_path)
        pids = session.supervisor_pid, session.node_pid
        assert all(pids)
        assert "has ended" in run("stop").stdout
        assert (session.supervisor_pid, session.node_pid) == (0, 0)

    def test_a_second_one_at_the_same_place(self, started: Run) -> None:
        error = started("start", "--local", code=FAILED).stderr
        assert "a session stands already at" in error and "orchestrator stop" in error

    def test_another_one_elsewhere(self, started: Run, tmp_path: Path) -> None:
        place = str(tmp_path / "elsewhere")
        said = started("start", "--local", "--num-cpus", "1", "--temp-dir", place).stdout
        assert place in said
        with ray.init(address=place):
            assert ray.cluster_resources()["CPU"] == 1
        with ray.init(address="auto"):
            assert ray.cluster_resources()["CPU"] == 2
        started("stop", "--address", place)
        assert standing(tmp_path).node_pid, "the other one goes on"

    def test_all(self, run: Run, tmp_path: Path) -> None:
        place = str(tmp_path / "s")
        run("start", "--head", "--port", "0", "--num-cpus", "1", "--temp-dir", place)
        (head,) = find_all(place)
        run("start", "--join", head.join_string(), "--num-cpus", "1", "--temp-dir", place)
        said = run("stop", "--all", "--address", place).stdout
        assert (
            said.count("has ended") == 2 and said.splitlines()[-1] == f"The session at {head.path} has ended."
        )
        assert find_all(place) == []
        assert "nothing to stop" in run("stop", "--all", "--address", place).stderr

    def test_of_several_one_has_to_be_named(self, run: Run, tmp_path: Path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        locks = []
        for name in ("session-1", "session-2"):
            directory = place / f"orchestrator-{os.getuid()}" / name
            locks.append(open_session_dir(str(directory)))
            (directory / "node.sock").touch()
        error = run("stop", "--address", str(place), code=FAILED).stderr
        assert "pass the address of one" in error and "nothing to stop" not in error
        for lock in locks:
            os.close(lock)

    def test_what_is_wrong_is_said_at_once(self, run: Run) -> None:
        for words, text in (
            (("start",), "--head"),
            (("start", "--local", "--num-cpus", "-1"), ">= 0"),
            (("start", "--local", "--resources", "{"), "not JSON"),
            (("start", "--local", "--resources", "[1]"), "not a JSON object"),
            (("start", "--local", "--resources", '{"CPU": 1}'), "num_cpus="),
            (("start", "--local", "--labels", '{"a": 1}'), "str to str"),
            (("start", "--local", "--object-store-memory", "5"), "1 MiB"),
            (("list", "cats"), "tasks"),
            (("fly",), "fly"),
        ):
            assert text in run(*words, code=WRONG).stderr

    def test_where_nothing_stands(self, run: Run) -> None:
        assert "nothing to stop" in run("stop").stderr
        for words in (("status",), ("list", "tasks"), ("summary",), ("memory",), ("logs",), ("drain", "x")):
            assert "orchestrator start --head" in run(*words, code=NO_SESSION).stderr

    def test_in_the_foreground(self, run: Run, tmp_path: Path) -> None:
        process = subprocess.Popen(
            command("start", "--local", "--num-cpus", "1", "--block"), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert "a session stands at" in process.stderr.readline()
        assert standing(tmp_path).supervisor_pid == process.pid
        with ray.init(address="auto"):
            assert ray.get(double.remote(2)) == 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
        process.stderr.close()

    def test_a_start_that_fails_says_why(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "orchestrator").write_text("in the way")
        error = run("start", "--local", code=FAILED).stderr
        assert "orchestrator is not a directory" in error
        (tmp_path / "orchestrator").unlink()

    def test_one_that_has_ended_by_itself(self, started: Run, tmp_path: Path) -> None:
        session = standing(tmp_path)
        os.kill(session.node_pid, signal.SIGKILL)
        until(lambda: not session.supervisor_pid)
        error = started("status", code=NO_SESSION).stderr
        assert "the last one ended by itself" in error and "exit code -9" in error
        started("start", "--local", "--num-cpus", "1")
        started("stop")

    def test_only_its_own_processes_are_signalled(self, started: Run, tmp_path: Path) -> None:
        """A pid that is somebody else's by now is left alone."""
        session = standing(tmp_path)
        facts = json.loads((Path(session.path) / "session.json").read_text())
        supervisor, ticks = facts["supervisor"]
        bystander = subprocess.Popen(["sleep", "1000"])
        try:
            facts["supervisor"] = [bystander.pid, ticks]
            (Path(session.path) / "session.json").write_text(json.dumps(facts))
            assert Standing(session.path).supervisor_pid == 0
            started("stop", "--force")  # the node is its own
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()
        until(lambda: not os.path.exists(f"/proc/{supervisor}"))
        (tmp_path / "orchestrator" / "last-failure.txt").unlink(missing_ok=True)
        try:
            (tmp_path / "orchestrator").rmdir()
        except FileNotFoundError:
            pass

    def test_drain(self, started: Run, tmp_path: Path) -> None:
        session = standing(tmp_path)
        assert "there is no node 'x'" in started("drain", "x", code=FAILED).stderr
        (node,) = json.loads(started("list", "nodes", "--format", "json").stdout)
        assert node["node_id"] in started("drain", node["node_id"]).stdout
        until(lambda: not session.supervisor_pid)
        until(lambda: not os.path.lexists(session.path))

    def test_a_head_that_starts_nodes(self, run: Run, tmp_path: Path) -> None:
        config = tmp_path / "cluster.yaml"
        config.write_text("available_node_types: {small: {resources: {CPU: 1}, min_workers: 1}}")
        run("start", "--head", "--port", "0", "--num-cpus", "0", "--autoscaling-config", str(config))
        until(lambda: len(json.loads(run("list", "nodes", "--format", "json").stdout)) == 2)
        said = run("status").stdout
        assert "started by the autoscaler: 1" in said and "small" in said
        run("stop")
        # The nodes that it has started notice by themselves.
        until(lambda: not any((tmp_path / f"orchestrator-{os.getuid()}").glob("session-*/session.json")))

    def test_a_configuration_that_makes_no_sense_starts_nothing(self, run: Run, tmp_path: Path) -> None:
        config = tmp_path / "cluster.yaml"
        config.write_text("max_worker: 1\navailable_node_types: {small: {resources: {CPU: 1}}}")
        said = run("start", "--head", "--autoscaling-config", str(config), code=2).stderr
        assert "max_worker: there is no such setting" in said
        said = run("start", "--local", "--autoscaling-config", str(config), code=2).stderr
        assert "is for the head" in said

    def test_version(self, run: Run) -> None:
        assert run("version").stdout.strip() == ray.__version__


class TestLooking:
    def test_status(self, started: Run) -> None:
        with ray.init(address="auto"):
            holder = Holder.options(num_cpus=1).remote()
            ray.get(holder.hold.remote(1))
            said = started("status").stdout
            assert "jobs      1" in said and "1 / 2" in said
            assert "actor" in started("status", "-v").stdout
        until(lambda: "jobs      0" in started("status").stdout)

    def test_lists(self, started: Run, tmp_path: Path) -> None:
        with ray.init(address="auto", namespace="n") as session:
            holder = Holder.options(name="holder").remote()
            large = ray.put(bytes(1_000_000))
            ray.get([double.remote(1), holder.hold.remote(large)])
            for kind, text in (
                ("tasks", "double"),
                ("actors", "Holder"),
                ("objects", large.hex()),
                ("workers", "DRIVER"),
                ("nodes", session["node_id"]),
                ("placement-groups", "placement_group_id"),
                ("jobs", session["job_id"]),
            ):
                assert text in started("list", kind).stdout, kind
            assert started("list", "workers").stdout.count("DRIVER") == 1, "who looks is not listed"
            assert "False" not in started("list", "workers").stdout, "nor is who has looked"
            assert len(os.listdir(tmp_path / "orchestrator" / "session-head" / "jobs")) == 1
            rows = json.loads(started("list", "tasks", "-f", "name=double", "--detail").stdout)
            assert [(row["state"], row["job_id"]) for row in rows] == [("FINISHED", session["job_id"])]
            assert "only the first 1" in started("list", "workers", "--limit", "1").stderr
            started("list", "tasks", "-f", "colour=red", code=WRONG)
            assert "double" in started("summary").stdout
            assert "Holder" in started("summary", "actors").stdout
            assert large.hex() in started("memory", "--units", "KB").stdout

    def test_jobs_that_are_over_are_listed_as_such(self, started: Run) -> None:
        with ray.init(address="auto") as session:
            job = session["job_id"]
            ray.get(double.remote(1))
        until(lambda: "SUCCEEDED" in started("list", "jobs").stdout)
        assert job in started("list", "jobs", "-f", "status=SUCCEEDED").stdout

    def test_timeline_and_logs(self, started: Run, tmp_path: Path) -> None:
        with ray.init(address="auto", log_to_driver=False):

            @ray.remote
            def say():
                print("a word")

            ray.get(say.remote())
            started("timeline", str(tmp_path / "t.json"))
        names = {event["name"] for event in json.loads((tmp_path / "t.json").read_text())}
        assert any("say" in name for name in names)
        logs = started("logs").stdout
        assert "node.log" in logs and "supervisor.log" in logs
        words = [line.split()[1] for line in logs.splitlines() if "worker" in line]
        assert any("a word" in started("logs", word).stdout for word in words)
        assert "there is no log 'cat'" in started("logs", "cat", code=FAILED).stderr


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ImportError('no click', name='click')")
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = subprocess.run(
        command("version"), capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 1 and "plasma-orchestrator[cli]" in done.stderr
