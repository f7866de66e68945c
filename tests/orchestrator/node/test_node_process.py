"""The node with real processes: leases, deaths, actors, lines, garbage."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.exceptions import NodeDiedError
from orchestrator.node import launch, session_dir, system
from tests.waiting import until

from .conftest import Driver, is_zombie, wait_end


def test_workers_are_granted_and_returned(driver: Driver) -> None:
    first, second = driver.lease(want=2)
    assert first["worker"] != second["worker"]
    driver.run(first["worker"], "import os; reply({'pid': os.getpid()})")
    assert driver.expect("program")["pid"] == first["pid"]
    driver.tell_node(op="return", worker=first["worker"])
    (third,) = driver.lease(class_="g")
    assert third["worker"] == first["worker"]


def test_hello_says_what_there_is(driver: Driver) -> None:
    has = driver.expect("hello")["resources"]
    assert has["CPU"] == 2.0 and has["memory"] > 0 and has["node:__internal_head__"] == 1.0
    answer = driver.ask(op="resources", req=5)
    assert answer["total"] == answer["available"] == has


def test_what_can_never_be_met_is_said_at_once(driver: Driver) -> None:
    driver.tell_node(op="lease", class_="f", resources={"CPU": 999}, want=1)
    answer = driver.expect("infeasible")
    assert (answer["class"], answer["verdict"]) == ("f", "infeasible")
    assert answer["cause"] == "it needs {CPU: 999}, and the node has {CPU: 2} in total"


def test_a_node_whose_driver_dies_before_it_has_said_anything_removes_the_directory(tmp_path: Path) -> None:
    path = str(tmp_path / "orchestrator" / "session-1-ab")
    os.close(session_dir.open_session_dir(path))
    ours, theirs = socket.socketpair()
    with theirs:
        node = subprocess.Popen(
            [*launch.interpreter(), launch.bootstrap(launch._PROGRAM.format(fd=theirs.fileno()))],
            env={**os.environ, session_dir.MARK: path},
            pass_fds=[theirs.fileno()],
        )
    ours.close()
    assert node.wait(30) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_blocked_worker_is_replaced(start: Callable[..., Driver]) -> None:
    driver = start(cpus=1.0)
    chain = driver.lease()
    for _ in range(10):
        driver.run(chain[-1]["worker"], "node({'op': 'blocked'})")
        chain += driver.lease()
    assert len({grant["pid"] for grant in chain}) == 11


@pytest.mark.parametrize(
    ("program", "exit_code", "signal_name"),
    [
        ("import os; os._exit(3)", 3, None),
        ("import sys; sys.exit(4)", 4, None),
        ("raise RuntimeError('out of luck')", 1, None),
        ("import os; os.kill(os.getpid(), 9)", None, "SIGKILL"),
        ("import faulthandler, os; faulthandler.disable(); os.kill(os.getpid(), 11)", None, "SIGSEGV"),
        ("import os; os.abort()", None, "SIGABRT"),
    ],
)
def test_a_death_names_its_cause(
    driver: Driver, program: str, exit_code: int | None, signal_name: str | None
) -> None:
    (grant,) = driver.lease(cpus=2.0)
    driver.run(grant["worker"], "import sys; print('last words', file=sys.stderr)\n" + program)
    news = driver.expect("died")
    report = news["report"]
    assert (news["worker"], news["actor"], report["pid"]) == (grant["worker"], None, grant["pid"])
    assert (report["exit_code"], report["signal"]) == (exit_code, signal_name)
    assert report["stderr_tail"][0] == "last words"
    assert (signal_name or str(exit_code)) in report["reason"]
    assert driver.lease(cpus=2.0, class_="g"), "its CPUs are free again"


def test_what_a_dead_worker_held_is_free_when_its_death_is_told(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.run(grant["worker"], "store.create_buffer(b'x' * 16, 1 << 20); import os; os.kill(os.getpid(), 9)")
    driver.expect("died")
    audit = driver.store.audit()
    assert audit.ok, audit.problems
    assert not driver.store.contains(b"x" * 16)
    assert grant["worker"] not in {client["address"] for client in driver.store.clients()}


def test_every_client_hears_of_a_death(driver: Driver) -> None:
    victim, witness = driver.lease(want=2)
    driver.run(victim["worker"], "import os; os._exit(0)")
    driver.expect("died")
    seen: list[int] = []
    while not seen:  # the news is on its way to the witness, too, but not on the same channel
        driver.run(witness["worker"], "reply({'seen': [m['worker'] for m in seen if m['op'] == 'died']})")
        seen = driver.expect("program")["seen"]
    assert seen == [victim["worker"]]


def test_a_worker_can_be_killed_for_a_reason(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.tell_node(op="kill_worker", worker=grant["worker"], reason="cancelled by force")
    report = driver.expect("died")["report"]
    assert (report["reason"], report["signal"]) == ("cancelled by force", "SIGKILL")


def test_what_a_worker_has_started_dies_with_it(driver: Driver) -> None:
    (grant,) = driver.lease()
    program = """if True:
        import os, signal, subprocess
        child = subprocess.Popen(["sleep", "1000"])
        orphan = subprocess.run(["sh", "-c", "sleep 1000 > /dev/null 2>&1 & echo $!"], capture_output=True)
        reply({"pids": [child.pid, int(orphan.stdout)]})
    """
    driver.run(grant["worker"], program)
    pidfds = [os.pidfd_open(pid) for pid in driver.expect("program")["pids"]]
    driver.run(grant["worker"], "import os; os._exit(1)")
    for pidfd in pidfds:
        wait_end(pidfd)


def test_the_tasks_of_a_dead_worker_end_too(driver: Driver) -> None:
    (parent,) = driver.lease()
    driver.run(parent["worker"], "node({'op': 'lease', 'class': 'c', 'resources': {'CPU': 1}, 'want': 1})")
    driver.run(parent["worker"], "reply({'seen': seen})")
    driver.expect("program")
    workers = []
    while not workers:
        workers = [w for w in driver.ask(op="resources", req=1)["workers"] if w["worker"] != parent["worker"]]
        workers = [w for w in workers if w["state"] == "leased"]
    driver.run(parent["worker"], "import os; os._exit(1)")
    news = driver.expect("died", lambda m: m["worker"] == workers[0]["worker"])
    assert "submitted its task" in news["report"]["reason"]


def test_a_dead_zygote_is_replaced_and_its_workers_are_reported(driver: Driver) -> None:
    first, second = driver.lease(want=2)
    (zygote,) = (pid for pid in system.children_of(driver.node.pid) if system.children_of(pid))
    os.kill(zygote, signal.SIGKILL)
    reports = [driver.expect("died")["report"] for _ in range(2)]
    assert {report["pid"] for report in reports} == {first["pid"], second["pid"]}
    assert all("zygote" in report["reason"] for report in reports)
    again = driver.lease(want=2, class_="g")
    assert {grant["pid"] for grant in again}.isdisjoint({first["pid"], second["pid"]})
    driver.run(again[0]["worker"], "import os; os._exit(7)")
    assert driver.expect("died")["report"]["exit_code"] == 7


def test_workers_draw_different_random_numbers(driver: Driver) -> None:
    drawn = set()
    for grant in driver.lease(want=2):
        draw = "import random, numpy; reply({'drawn': [random.random(), numpy.random.random()]})"
        driver.run(grant["worker"], draw)
        drawn |= set(driver.expect("program")["drawn"])
    assert len(drawn) == 4


def test_a_worker_has_few_threads_and_no_descriptors_of_others(driver: Driver) -> None:
    (grant,) = driver.lease()
    program = """if True:
        import os
        fds = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
               and os.path.lexists(f"/proc/self/fd/{fd}")}
        reply({"threads": len(os.listdir("/proc/self/task")), "fds": fds})
    """
    driver.run(grant["worker"], program)
    answer = driver.expect("program")
    assert answer["threads"] <= 4
    targets = list(answer["fds"].values())
    assert sum("pipe:" in target for target in targets) == 2, targets
    assert not any("lock" in target or "node.log" in target for target in targets), targets
    node_threads = os.listdir(f"/proc/{driver.node.pid}/task")
    assert len(node_threads) <= 8


# ---------------------------------------------------------------- actors


def create_actor(driver: Driver, actor: str, **fields: object) -> None:
    message = {"op": "create_actor", "actor": actor, "name": None, "namespace": "n", "class_name": "Counter"}
    message |= {
        "resources": {"CPU": 1},
        "hold": {},
        "get_if_exists": False,
        "handle": "aGk=",
        "detached": False,
    }
    driver.send_raw(json.dumps({**message, "req": int(actor, 16), **fields}).encode())


def test_an_actor_from_its_creation_to_its_death(driver: Driver) -> None:
    create_actor(driver, "aa", name="counter")
    placed = driver.expect("actor_worker")
    assert (placed["actor"], placed["req"]) == ("aa", 0xAA)
    driver.tell_node(op="resolve_actor", actor="aa")
    driver.run(placed["worker"], "node({'op': 'actor_state', 'actor': 'aa', 'state': 'alive'})")
    assert driver.expect("actor_address")["worker"] == placed["worker"]
    found = driver.ask(op="get_actor", name="counter", namespace="n", req=1)
    assert (found["found"], found["actor"], found["handle"]) == (True, "aa", "aGk=")
    assert driver.ask(op="list_actors", req=2)["actors"][0]["state"] == "alive"
    driver.tell_node(op="kill_actor", actor="aa", no_restart=True, reason="no longer needed")
    news = driver.expect("died")
    assert (news["actor"], news["report"]["reason"]) == ("aa", "no longer needed")
    assert driver.ask(op="get_actor", name="counter", namespace="n", req=3)["found"] is False


def test_many_actors_live_on_two_cpus(driver: Driver) -> None:
    for number in range(1, 11):
        create_actor(driver, f"{number:02x}")
    workers = {driver.expect("actor_worker")["worker"] for _ in range(10)}
    assert len(workers) == 10
    assert len(driver.lease(want=2)) == 2, "and tasks still have workers"


def test_a_name_is_taken_once(driver: Driver) -> None:
    create_actor(driver, "aa", name="counter")
    assert driver.expect("reply")["created"], "at once, whenever there is room for it"
    create_actor(driver, "bb", name="counter")
    assert driver.expect("reply")["error"] == "exists"
    create_actor(driver, "cc", name="counter", get_if_exists=True)
    answer = driver.expect("reply")
    assert "error" not in answer and answer["actor"] == "aa"


def test_an_actor_that_can_never_be_placed(driver: Driver) -> None:
    create_actor(driver, "aa", resources={"GPU": 1})
    answer = driver.expect("reply")
    assert answer["error"] == "infeasible" and "it needs {GPU: 1}" in answer["cause"]


def test_an_actor_that_crashes_is_reported_with_its_id(driver: Driver) -> None:
    create_actor(driver, "aa")
    worker = driver.expect("actor_worker")["worker"]
    driver.run(worker, "import os; os._exit(9)")
    assert driver.expect("died")["actor"] == "aa"
    driver.tell_node(op="resolve_actor", actor="aa")
    address = driver.expect("actor_address")
    assert address["state"] == "dead" and address["report"]["exit_code"] == 9


# ---------------------------------------------------------------- lines


def read_lines(driver: Driver, until: str) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    while not lines or not lines[-1][1].startswith(until):
        message = driver.expect("log")
        lines += [(message["stream"], line) for line in message["lines"]]
    return lines


def test_what_a_worker_prints_comes_to_the_driver(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.run(grant["worker"], "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)")
    messages = [driver.expect("log") for _ in range(2)]
    assert {m["pid"] for m in messages} == {grant["pid"]}
    assert sorted((m["stream"], m["lines"]) for m in messages) == [("stderr", ["err"]), ("stdout", ["out"])]


def test_no_line_is_lost_and_long_ones_are_cut(driver: Driver) -> None:
    (grant,) = driver.lease()
    program = """if True:
        for number in range(20_000):
            print(number, "x" * 80)
        print("y" * 1_000_000)
        print("end")
    """
    driver.run(grant["worker"], program)
    lines = [line for _, line in read_lines(driver, "end")]
    assert [line.split()[0] for line in lines[:20_000]] == [str(number) for number in range(20_000)]
    assert len(lines) == 20_002 and lines[20_000].endswith("bytes more]")


def test_the_last_lines_come_before_the_news_of_the_death(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.run(grant["worker"], "import os; os.write(1, b'without a newline'); os._exit(0)")
    driver.expect("died")
    assert [m["lines"] for m in driver.heard if m["op"] == "log"] == [["without a newline"]]


def test_lines_are_kept_in_the_session_directory(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.run(grant["worker"], "print('for the record')")
    driver.expect("log")
    files = Path(driver.session_dir, "logs").glob("worker-*.log")
    assert [file.read_text() for file in files] == ["for the record\n"]


# ---------------------------------------------------------------- what does not belong


def test_garbage_is_written_down_and_survived(driver: Driver) -> None:
    for payload in (
        b"",
        b"\xff" * 1000,
        b"{",
        b"[" * 50_000,
        b'{"op":"lease"}',
        b'{"op":"nonsense"}',
        b"null",
    ):
        driver.send_raw(payload)
    driver.tell_node(op="return", worker=12345)
    driver.tell_node(op="blocked")
    driver.tell_node(op="ready", token=999, pid=1)
    assert "bad message" in driver.ask(op="get_actor", name=None, req=3)["error"]
    assert driver.lease()
    log = Path(driver.session_dir, "logs", "node.log").read_text()
    assert "unknown op 'nonsense'" in log and "not JSON" in log and "there is no such worker 999" in log


def test_only_the_driver_can_end_the_session(driver: Driver) -> None:
    (grant,) = driver.lease()
    driver.run(grant["worker"], "node({'op': 'shutdown'}); reply({})")
    driver.expect("program")
    assert driver.ask(op="resources", req=1) and driver.node.alive()


# ---------------------------------------------------------------- the node's own end


def test_a_message_ends_the_session(driver: Driver) -> None:
    pidfd = os.pidfd_open(driver.node.pid)
    driver.tell_node(op="shutdown")
    wait_end(pidfd)
    assert not driver.node.alive()
    assert driver.node.end_reason() == "the driver has ended the session"
    assert not Path(driver.session_dir).exists()


def test_an_installation_that_cannot_work_ends_with_the_reason(start: Callable[..., Driver]) -> None:
    driver = start(entry="no_such_module:run")
    wait_end(os.pidfd_open(driver.node.pid))
    assert not driver.node.alive()
    assert "the zygote died" in driver.node.end_reason()


def test_a_node_that_cannot_start_says_why(
    start: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "bootstrap", lambda _: "raise SystemExit('no such luck')")
    with pytest.raises(NodeDiedError, match=r"code 1(.|\n)*no such luck"):
        start()


def test_sessions_are_independent(start: Callable[..., Driver]) -> None:
    one, other = start(), start()
    one.close()
    (grant,) = other.lease()
    assert not is_zombie(grant["pid"])


def _as_after_an_interrupt(driver: Driver) -> None:
    # What `Popen.poll` leaves when Ctrl-C comes right after it has taken its lock.
    assert driver.node._process._waitpid_lock.acquire(False)  # type: ignore[attr-defined]


def test_an_interrupt_of_a_look_at_the_node_does_not_keep_its_end_waiting(driver: Driver) -> None:
    _as_after_an_interrupt(driver)
    assert driver.node.alive()
    driver.node.stop()
    assert not driver.node.alive() and driver.node._process.returncode == 0


def test_the_same_when_it_was_killed(driver: Driver) -> None:
    _as_after_an_interrupt(driver)
    os.kill(driver.node.pid, signal.SIGKILL)
    until(lambda: not driver.node.alive())
    driver.node.kill()
    assert driver.node._process.returncode == -signal.SIGKILL
    until(lambda: not driver.processes())


def test_an_end_that_was_reaped_by_somebody_else_is_an_end(driver: Driver) -> None:
    os.kill(driver.node.pid, signal.SIGKILL)
    os.waitpid(driver.node.pid, 0)
    assert not driver.node.alive()
    driver.node.kill()
    until(lambda: not driver.processes())
