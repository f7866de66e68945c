"""What actors hear of the end of their session."""

from __future__ import annotations

import os
import time

import pytest

import orchestrator as ray

pytestmark = pytest.mark.both_modes


class Closer:
    def __init__(self, note):
        self.note = note

    def __ray_shutdown__(self):
        self.note.touch()

    def ping(self):
        return "pong"


class AsyncClosing(Closer):
    async def ping(self):
        return "pong"


@pytest.mark.parametrize("cls", [Closer, AsyncClosing])
def test_hooks_run_when_the_session_ends(session, tmp_path, cls):
    actors = [ray.remote(cls).remote(tmp_path / str(number)) for number in range(3)]
    assert ray.get([actor.ping.remote() for actor in actors]) == ["pong"] * 3
    ray.shutdown()
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_hooks_of_restartable_actors_too(session, tmp_path):
    actor = ray.remote(Closer).options(max_restarts=-1, name="kept").remote(tmp_path / "note")
    assert ray.get(actor.ping.remote()) == "pong"
    ray.shutdown()
    assert (tmp_path / "note").exists()


@pytest.mark.not_inline("a hook that never ends ends the driver's patience, which is all it has here")
def test_a_hook_that_never_ends_does_not_keep_the_session(session, monkeypatch):
    from orchestrator.api import session as sessions

    class Endless:
        def __ray_shutdown__(self):
            time.sleep(1000)

        def pid(self):
            return os.getpid()

    monkeypatch.setattr(sessions, "HOOKS_TIMEOUT_S", 0.1)
    actor = ray.remote(Endless).remote()
    pid = ray.get(actor.pid.remote())
    ray.shutdown()
    assert not os.path.exists(f"/proc/{pid}")
