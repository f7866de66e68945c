"""Sessions that stand by themselves, and the drivers that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator as ray
from tests.orchestrator.standing import StandingSession


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
