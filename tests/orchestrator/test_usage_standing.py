"""Sessions that stand by themselves, and the drivers that come and go."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator as ray
from orchestrator.api.objects import forget_object, list_named_objects
from orchestrator.node.system import children_of
from tests.orchestrator.standing import StandingSession
from tests.waiting import until


@pytest.fixture
def stand(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandingSession]:
    """A session on two CPUs that stands by itself; nothing of it is left after the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("ORCHESTRATOR_ADDRESS", raising=False)
    session = StandingSession(tmp_path)
    yield session
    ray.shutdown()
    session.close()
    assert not (tmp_path / "orchestrator").exists()


@ray.remote
def double(x):
    return 2 * x


def test_drivers_come_and_go(stand: StandingSession) -> None:
    for i in range(2):
        with ray.init(address="auto") as session:
            assert session["address"] == session.session_dir == stand.path
            assert session.node_pid == stand.session.node_pid
            assert ray.get([double.remote(i) for i in range(10)]) == [2 * i for i in range(10)]
        assert not ray.is_initialized()
        assert stand.session.node_pid, "shutdown() only disconnects"
    with ray.init(address=stand.path):
        assert ray.get(double.remote(5)) == 10


def test_what_one_driver_has_named_another_finds(stand: StandingSession) -> None:
    stand.drive(
        """
@ray.remote
class Counter:
    def __init__(self): self.count = 0
    def add(self): self.count += 1; return self.count
keep = Counter.options(name="counter", lifetime="detached").remote()
assert ray.get(keep.add.remote()) == 1
ray.put([1, 2, 3], name="list")
tell("there")
""",
        init="address='auto', namespace='shared'",
    ).end()
    with ray.init(address="auto", namespace="shared"):
        counter = ray.get_actor("counter")
        assert ray.get(counter.add.remote()) == 2, "it has outlived its driver, with its state"
        assert ray.get(ray.get_object("list")) == [1, 2, 3]
    with ray.init(address="auto"):
        with pytest.raises(ValueError, match="counter"):
            ray.get_actor("counter")
        ray.kill(ray.get_actor("counter", namespace="shared"))


def test_each_driver_has_a_namespace_of_its_own_unless_it_names_one(stand: StandingSession) -> None:
    program = """
@ray.remote
class Thing: pass
thing = Thing.options(name="thing").remote()
tell(ray.get_runtime_context().namespace)
wait_for("end")
"""
    one, other = stand.drive(program), stand.drive(program)
    assert one.hear() != other.hear(), "both have an actor of the same name"


def test_a_driver_that_is_killed_takes_its_job_along_and_no_other(stand: StandingSession) -> None:
    program = """
from orchestrator.util import placement_group
@ray.remote
def spin():
    print("spins")
    while True: time.sleep(0.01)
@ray.remote(num_cpus=0)
class Actor:
    def pid(self): return os.getpid()
@ray.remote(num_cpus=0)
class Parent:
    def child(self):
        self.actor = Actor.remote()
        return ray.get(self.actor.pid.remote())
actor = Actor.remote()
parent = Parent.remote()
group = placement_group([{"CPU": 1}], name="group")
task = spin.remote()
ray.get(group.ready())
large = ray.put(bytes(1_000_000))
tell([ray.get(actor.pid.remote()), ray.get(parent.child.remote())])
wait_for("end")
"""
    with ray.init(address="auto", namespace="n"):
        ours = double.remote(1)
        before = _used_bytes()
        driver = stand.drive(program, init="address='auto', namespace='n'")
        pids = driver.hear()
        assert ray.util.get_placement_group("group")
        driver.kill()
        for pid in pids:
            until(lambda pid=pid: not _lives(pid))
        until(lambda: ray.available_resources().get("CPU") == 2)
        until(lambda: _used_bytes() <= before)
        with pytest.raises(ValueError, match="group"):
            ray.util.get_placement_group("group")
        assert ray.get([ours, double.remote(2)]) == [2, 4]


def test_a_driver_that_ends_in_good_order_lets_hooks_run(stand: StandingSession, tmp_path: Path) -> None:
    program = f"""
@ray.remote
class Actor:
    def pid(self): return os.getpid()
    def __ray_shutdown__(self): open({str(tmp_path / "hook")!r}, "a").write("x")
mine = Actor.remote()
other = Actor.options(name="stays", lifetime="detached").remote()
tell(ray.get([mine.pid.remote(), other.pid.remote()]))
"""
    driver = stand.drive(program, init="address='auto', namespace='n'")
    mine, other = driver.hear()
    assert driver.end() == (0, "")
    until(lambda: not _lives(mine))
    assert _lives(other)
    assert (tmp_path / "hook").read_text() == "x"
    with ray.init(address="auto", namespace="n"):
        assert ray.get(ray.get_actor("stays").pid.remote()) == other


def test_what_workers_print_goes_to_the_driver_whose_work_they_do(stand: StandingSession) -> None:
    program = """
@ray.remote
def inner(word): print(word, "inner")
@ray.remote
def outer(word):
    print(word, "outer")
    ray.get(inner.remote(word))
wait_for("go")
ray.get([outer.remote("WORD") for _ in range(3)])
"""
    drivers = [stand.drive(program.replace("WORD", word)) for word in ("apples", "pears")]
    for driver in drivers:
        driver.say("go")
    for driver, word in zip(drivers, ("apples", "pears"), strict=True):
        assert driver.end() == (0, "")
        words = sorted(line.partition(") ")[2] for line in driver.lines)
        assert words == [f"{word} inner"] * 3 + [f"{word} outer"] * 3


def test_two_drivers_with_modules_of_the_same_name(stand: StandingSession, tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, os.getcwd())
import helper
@ray.remote
def ask():
    import helper
    return helper.ANSWER, os.getcwd()
ray.init(address="auto")
tell(ray.get([ask.remote() for _ in range(4)]))
"""
    drivers = []
    for answer in (1, 2):
        place = tmp_path / str(answer)
        place.mkdir()
        (place / "helper.py").write_text(f"ANSWER = {answer}")
        drivers.append((answer, place, stand.drive(program, cwd=place, init="")))
    for answer, place, driver in drivers:
        assert driver.hear() == [[answer, str(place)]] * 4
        assert driver.end() == (0, "")


def test_a_job_that_wants_everything_leaves_room_for_another(stand: StandingSession) -> None:
    program = """
@ray.remote
def work(): time.sleep(0.05); return os.getpid()
def pids(count): return len(set(ray.get([work.remote() for _ in range(count)])))
pids(4)
tell("ready")
wait_for("go")
tell(pids(20))
"""
    greedy = stand.drive(
        """
@ray.remote
def spin(): time.sleep(0.02)
refs = [spin.remote() for _ in range(20)]
tell("busy")
while True:
    done, refs = ray.wait(refs)
    refs += [spin.remote() for _ in done]
"""
    )
    assert greedy.hear() == "busy"
    modest = stand.drive(program)
    assert modest.hear() == "ready"
    modest.say("go")
    assert modest.hear() >= 1
    greedy.kill()
    assert modest.end() == (0, "")


def test_a_detached_actor_works_on_for_the_job_that_is_over(stand: StandingSession, tmp_path: Path) -> None:
    """It submits tasks, and is restarted, with the import path of its driver."""
    (tmp_path / "onlyhere.py").write_text("ANSWER = 42")
    stand.drive(
        """
sys.path.insert(0, os.getcwd())
ray.init(address="auto", namespace="n")
@ray.remote
def task():
    import onlyhere
    return onlyhere.ANSWER
@ray.remote(max_restarts=-1, max_task_retries=-1)
class Boss:
    def pid(self): return os.getpid()
    def ask(self): return ray.get(task.remote())
boss = Boss.options(name="boss", lifetime="detached").remote()
tell(ray.get(boss.ask.remote()))
""",
        cwd=tmp_path,
        init="",
    ).end()
    with ray.init(address="auto", namespace="n"):
        boss = ray.get_actor("boss")
        assert ray.get(boss.ask.remote()) == 42
        first = ray.get(boss.pid.remote())
        os.kill(first, signal.SIGKILL)
        assert ray.get(boss.ask.remote(), timeout=60) == 42
        assert ray.get(boss.pid.remote()) != first


def test_a_detached_actor_whose_driver_leaves_at_once(stand: StandingSession) -> None:
    program = """
@ray.remote
class Late:
    def __init__(self, values): time.sleep(0.2); self.values = values
    def get(self): return self.values
Late.options(name="late", lifetime="detached").remote([1, 2, 3])
tell("made")
"""
    driver = stand.drive(program + "ray.shutdown()", init="address='auto', namespace='n'")
    assert driver.hear() == "made"
    assert driver.end() == (0, "")
    with ray.init(address="auto", namespace="n"):
        assert ray.get(ray.get_actor("late").get.remote(), timeout=60) == [1, 2, 3]


def test_each_job_has_its_own_environment_and_settings(stand: StandingSession) -> None:
    program = """
@ray.remote
def ask():
    return os.environ.get("WORD"), ray.get_runtime_context().get_job_id(), ray.get_runtime_context().namespace
@ray.remote
def ask_for_others(): return ray.get(ask.remote())
@ray.remote(runtime_env={"env_vars": {"PYTHONHASHSEED": "7"}})
def fresh(): return sys.flags.hash_randomization, ray.get_runtime_context().get_job_id(), os.getcwd()
context = ray.get_runtime_context()
tell([ray.get(ask_for_others.remote()), ray.get(fresh.remote()), context.get_job_id(), context.namespace])
"""
    for word in ("apples", "pears"):
        driver = stand.drive(
            program, init=f"address='auto', runtime_env={{'env_vars': {{'WORD': {word!r}}}}}", cwd=stand.root
        )
        (asked, (_, fresh_job, cwd), job, namespace) = driver.hear()
        assert asked == [word, job, namespace]
        assert (fresh_job, cwd) == (job, str(stand.root))
        assert driver.end() == (0, "")


def test_a_group_that_is_detached_outlives_its_driver(stand: StandingSession) -> None:
    stand.drive(
        """
from orchestrator.util import placement_group
for name, lifetime in (("stays", "detached"), ("goes", None)):
    ray.get(placement_group([{"CPU": 1}], name=name, lifetime=lifetime).ready())
""",
        init="address='auto', namespace='n'",
    ).end()
    with ray.init(address="auto", namespace="n"):
        until(lambda: ray.available_resources().get("CPU") == 1)
        ray.util.remove_placement_group(ray.util.get_placement_group("stays"))
        with pytest.raises(ValueError, match="goes"):
            ray.util.get_placement_group("goes")


def test_names_in_a_namespace_that_was_nobody_else_s_go_with_its_driver(stand: StandingSession) -> None:
    driver = stand.drive(
        """
ray.put(bytes(1_000_000), name="mine")
ray.put(bytes(1_000_000), name="ours", namespace="n")
tell("put")
"""
    )
    assert driver.hear() == "put"
    driver.end()
    with ray.init(address="auto"):
        until(lambda: [row["name"] for row in list_named_objects(all_namespaces=True)] == ["ours"])
        forget_object("ours", namespace="n")
        until(lambda: _used_bytes() < 500_000)


def test_nothing_listens_on_a_port(stand: StandingSession) -> None:
    with ray.init(address="auto"):
        ray.get(double.remote(1))
        ours = [stand.session.supervisor_pid]
        for pid in ours:
            ours += children_of(pid)
        sockets = set()
        for pid in ours:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
                except OSError:
                    continue
        listed = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            listed += [row for row in rows if f"socket:[{row.split()[9]}]" in sockets]
        assert len(ours) >= 3 and not listed


class TestTheEnd:
    def test_a_driver_hears_of_the_session_s_end(self, stand: StandingSession) -> None:
        with ray.init(address="auto"):
            refs = [double.remote(1)]
            ray.get(refs)
            stand.session.stop(force=True)
            with pytest.raises(ray.exceptions.OrchestratorError, match="node"):
                ray.get(double.remote(2), timeout=60)

    @pytest.mark.parametrize("which", ["supervisor", "node"])
    def test_whoever_is_killed_takes_all_along(self, stand: StandingSession, which: str) -> None:
        with ray.init(address="auto"):
            assert ray.get(double.remote(1)) == 2
            pid = stand.session.supervisor_pid if which == "supervisor" else stand.session.node_pid
            os.kill(pid, signal.SIGKILL)
            until(lambda: not stand.session.supervisor_pid and not stand.session.node_pid)
            until(lambda: not stand.processes())
        until(lambda: not os.path.lexists(stand.path))
        if which == "node":
            kept = stand.root / "orchestrator" / "last-failure.txt"
            assert "the node process ended: exit code -9" in kept.read_text(), "the next one who asks is told"
            kept.unlink()
            kept.parent.rmdir()

    def test_what_runs_may_end(self, stand: StandingSession) -> None:
        driver = stand.drive(
            """
@ray.remote
def slow(): time.sleep(1); return "done"
ref = slow.remote()
ray.wait([ref], timeout=0.3)
tell("runs")
print(ray.get(ref))
"""
        )
        assert driver.hear() == "runs"
        stand.session.stop(force=False)
        driver.end()
        assert "done" in driver.lines


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _used_bytes() -> int:
    from orchestrator.core.current import require

    return require().store.stats()["used_bytes"]
