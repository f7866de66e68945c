"""How the node has environments built, by a builder that is a script of the test's."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from orchestrator.environments import resolved as environments
from orchestrator.node.environments import PROGRESS_S, Environments

TIMEOUT_S = 50


class Node:
    """Hears what `Environments` has to say; its interpreter is a script."""

    def __init__(self, tmp_path, script):
        self.said = []
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        self.session_dir = str(tmp_path)
        pip = {
            "lines": [],
            "options": [],
            "check": False,
            "pip_version": None,
            "files": {},
            "python": {"executable": str(python), "version": "", "packages": []},
        }
        self.env = environments.publish({"pip": pip, "setup_timeout_s": TIMEOUT_S}, self.session_dir)
        self.environments = Environments(
            self.session_dir,
            self.session_dir,
            lambda env: self.said.append(("ready", env)),
            lambda env, cause: self.said.append((cause, env)),
            lambda env, text: self.said.append((text, "progress")),
        )

    def wait(self, now_s):
        """Wait for the builder's end, as the node hears of it."""
        pid, status = os.waitpid(-1, 0)
        assert self.environments.exited(pid, status, now_s)
        assert not self.environments.exited(pid, status, now_s), "it is forgotten"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))


def test_a_failing_builder_s_last_lines_are_the_error(tmp_path):
    node = Node(tmp_path, "for i in $(seq 1000); do echo line $i; done; exit 3")
    node.environments.prepare(node.env, 0.0)
    node.wait(1.0)
    ((cause, env),) = node.said
    assert env == node.env and cause.startswith("it needs a runtime environment that could not be set up;")
    assert "line 1000" in cause and "line 900" not in cause and "ended with 3" in cause


def test_one_that_takes_long_is_spoken_of_and_then_ended(tmp_path):
    node = Node(tmp_path, "echo working on it; exec sleep 1000")
    node.environments.prepare(node.env, 0.0)
    node.environments.tick(PROGRESS_S - 1)
    assert node.said == []
    node.environments.tick(PROGRESS_S + 1)
    node.environments.tick(PROGRESS_S + 2)
    assert len(node.said) == 1 and node.said[0][0].startswith("is being set up for 11 s")
    node.environments.tick(TIMEOUT_S)
    node.wait(TIMEOUT_S)
    assert f"within {TIMEOUT_S} s (setup_timeout_seconds)" in node.said[-1][0]


def test_what_needs_no_building_is_ready_at_once(tmp_path):
    node = Node(tmp_path, "exit 1")
    env = environments.publish({"env_vars": {"A": "1"}}, node.session_dir)
    node.environments.prepare(env, 0.0)
    assert node.said == [("ready", env)]


def test_what_was_built_before_is_ready_at_once_until_it_is_removed(tmp_path):
    node = Node(tmp_path, "exit 1")
    cached = environments.cached_of(environments.load(node.env, node.session_dir))
    lock = cached.lock_to_build()
    os.makedirs(cached.path)
    cached.mark_complete()
    os.close(lock)
    for _ in range(2):
        node.environments.prepare(node.env, 0.0)
    assert node.said == [("ready", node.env)] * 2
    assert not cached.remove(), "it is in use"
    cached.clear()
    node.environments.prepare(node.env, 0.0)
    node.wait(0.0)
    assert "could not be set up" in node.said[-1][0]


@pytest.mark.parametrize("env", ["abc", "../../etc/passwd"])
def test_an_environment_nobody_has_described(tmp_path, env):
    node = Node(tmp_path, "exit 1")
    node.environments.prepare(env, 0.0)
    assert "nobody has described" in node.said[0][0]


def test_a_pip_of_its_own_where_the_interpreter_has_none(tmp_path):
    """Interpreters without pip are common; the one that comes with the standard library does."""
    import subprocess

    from orchestrator.environments.cache import CachedEnvironment
    from orchestrator.environments.pip_builder import _installer

    cached = CachedEnvironment("x", str(tmp_path))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", cached.path], check=True)
    command = _installer("false", cached)
    done = subprocess.run([*command, "list", "--format", "json"], check=True, capture_output=True, text=True)
    assert "pip" in [package["name"] for package in json.loads(done.stdout)]
