"""Standing sessions from outside: their supervisor, and what attaches to them, down to the raw socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator as ray
import plasma
from orchestrator.node import attaching, standing
from orchestrator.node.session_dir import SessionStandsError, is_held, open_session_dir, remove_session_dir
from orchestrator.node.system import start_ticks
from tests.orchestrator.standing import StandingSession
from tests.stopping import stopped
from tests.waiting import until

CONTROL = 0


@pytest.fixture
def stand(no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandingSession]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    session = StandingSession(tmp_path)
    yield session
    ray.shutdown()
    session.close()
    assert not (tmp_path / "orchestrator").exists()


class Stranger:
    """A process that comes in at the door, without the runtime."""

    def __init__(self, path: str) -> None:
        self.node, fd = attaching.knock(path)
        self.store = plasma.Store.attach(fd, name="driver")
        os.close(fd)

    def tell(self, **message: object) -> None:
        self.store.endpoint.sender(self.node.address, CONTROL).send(json.dumps(message).encode())

    def attach(self, **changes: object) -> dict[str, object]:
        facts = {
            "ticket": self.node.facts["ticket"],
            "namespace": "n",
            "pid": os.getpid(),
            "path": [],
            "cwd": "/",
        }
        return self.ask(op="attach", **{**facts, **changes})

    def ask(self, **message: object) -> dict[str, object]:
        self.tell(**message, req=1)
        endpoint = self.store.endpoint
        deadline_s = time.monotonic() + 30
        while True:
            bell = endpoint.bell()
            item = endpoint.receive(CONTROL)
            if item is not None:
                answer: dict[str, object] = json.loads(item[1])
                if answer["op"] == "reply":
                    return answer
            else:
                assert endpoint.wait(1, deadline_s - time.monotonic(), bell)

    def close(self) -> None:
        self.store.close()
        self.node.hang_up()
        del self.store


def test_a_driver_attaches_with_its_ticket_once(stand: StandingSession) -> None:
    stranger = Stranger(stand.path)
    assert "no such ticket" in str(stranger.attach(ticket="guessed").get("error"))
    assert stranger.attach()["job"]
    assert "no such ticket" in str(stranger.attach().get("error"))
    stranger.close()


def test_whoever_has_not_attached_is_no_client(stand: StandingSession) -> None:
    stranger = Stranger(stand.path)
    stranger.tell(op="resources", req=7)
    stranger.tell(op="shutdown")
    assert stranger.attach()["job"], "the node has survived both, and answered neither"
    assert stranger.ask(op="resources")["total"]
    stranger.close()


def test_an_attached_driver_cannot_end_the_session(stand: StandingSession) -> None:
    stranger = Stranger(stand.path)
    stranger.attach()
    stranger.tell(op="shutdown")
    assert stranger.ask(op="resources")["total"]
    stranger.close()


@pytest.mark.parametrize("field", ["path", "cwd", "namespace", "pid"])
def test_nonsense_in_attach_is_answered(stand: StandingSession, field: str) -> None:
    stranger = Stranger(stand.path)
    assert field in str(stranger.attach(**{field: {"x": 1}}).get("error"))
    assert stranger.attach()["job"]
    stranger.close()


def test_garbage_at_the_door(stand: StandingSession) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"{}\n", b"[" * 4000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(os.path.join(stand.path, "node.sock"))
            sock.sendall(garbage)
            assert json.loads(sock.recv(65536))["op"] == "refused"
    with ray.init(address="auto"):
        assert ray.cluster_resources()["CPU"] == 2
    assert "turned away" in (Path(stand.path) / "logs" / "node.log").read_text()


def test_a_driver_of_another_version(stand: StandingSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", "0.0.0")
    with pytest.raises(ConnectionError, match=r"takes no driver.*version.*0\.0\.0"):
        ray.init(address="auto")


def test_a_node_that_does_not_answer(stand: StandingSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(attaching.knock, "__defaults__", (0.3,))
    refused = pytest.raises(ConnectionError, match=r"node\.sock did not answer within 0\.3 s")
    with stopped(stand.session.node_pid), refused:
        ray.init(address="auto")


def test_a_socket_that_nobody_serves(no_leaks: None, tmp_path: Path) -> None:
    path = tmp_path / "session-1"
    path.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "node.sock"))
    with pytest.raises(ConnectionError, match="no session stands at"):
        attaching.knock(str(path))


def test_several_sessions_at_one_place_are_listed(no_leaks: None, tmp_path: Path) -> None:
    root = tmp_path / f"orchestrator-{os.getuid()}"
    locks = []
    for name in ("session-1", "session-2"):
        locks.append(open_session_dir(str(root / name)))
        (root / name / "node.sock").touch()
    with pytest.raises(ConnectionError, match=r"several sessions(.|\n)*session-1\n(.|\n)*session-2"):
        attaching.find_session(str(tmp_path))
    os.close(locks.pop())
    assert attaching.find_session(str(tmp_path)) == str(root / "session-1"), "the other is dead"
    os.close(locks.pop())


def test_what_a_killed_session_has_left_is_removed_by_the_next(no_leaks: None, tmp_path: Path) -> None:
    path = str(tmp_path / "orchestrator" / "session-head")
    lock_fd = open_session_dir(path)
    assert is_held(path)
    with pytest.raises(SessionStandsError):
        open_session_dir(path)
    (Path(path) / "jobs").mkdir()
    (Path(path) / "jobs" / "x").touch()
    os.close(lock_fd)
    assert not is_held(path)
    lock_fd = open_session_dir(path)
    assert sorted(os.listdir(path)) == ["lock", "logs"]
    remove_session_dir(path)
    os.close(lock_fd)


def test_a_companion_that_dies_is_started_again(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
    session = StandingSession(tmp_path, companions=[("gcs", [sys.executable, "-c", program])])
    log = Path(session.path) / "logs" / "gcs.log"
    (pid,) = until(lambda: log.read_text().split())
    os.kill(int(pid), signal.SIGKILL)
    _, again = until(lambda: (pids := log.read_text().split())[1:] and pids)
    assert "gcs is started again" in until((Path(session.path) / "logs" / "supervisor.log").read_text)
    with ray.init(address="auto"):
        assert ray.cluster_resources()["CPU"] == 2
    session.session.stop(force=False)
    until(lambda: not start_ticks(int(again)))
    session.close()


def test_a_start_that_nobody_waits_for_any_more_is_given_up(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(standing, "START_TIMEOUT_S", 0.0)
    with pytest.raises(standing.StartError, match="given up"):
        standing.start(standing.Options({"CPU": 1.0}, {}, 256 << 20))
    until(lambda: not (tmp_path / "orchestrator").exists() and _nobody_is_left(tmp_path))


def _nobody_is_left(tmp_path: Path) -> bool:
    """Tell that no supervisor for this place is left, whether it had made the directory or not."""
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and str(tmp_path).encode() in Path(f"/proc/{name}/environ").read_bytes():
                return False
        except OSError:
            continue
    return True


def test_a_start_that_fails_leaves_nothing(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    options = standing.Options({"CPU": 1.0}, {}, 256 << 20, companions=[("gcs", ["/nowhere", "x"])])
    with pytest.raises(standing.StartError, match="spill"):
        standing.start(options._replace(spill_root="/proc/nowhere/spill"))
    assert (
        not list((tmp_path / "orchestrator").glob("session-*"))
        if (tmp_path / "orchestrator").exists()
        else True
    )
