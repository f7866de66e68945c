"""Keys, inheritance and variables of environments."""

from __future__ import annotations

import os

import pytest

from orchestrator.common.runtime_env import RuntimeEnv
from orchestrator.environments import resolved as environments
from orchestrator.environments.cache import CachedEnvironment, make_room


def resolve(tmp_path, **fields):
    return environments.resolve(RuntimeEnv(**fields), str(tmp_path), lambda hook: b"pickled")


def test_equal_environments_have_equal_keys(tmp_path):
    one = resolve(tmp_path, env_vars={"A": "1", "B": "2"})
    other = resolve(tmp_path, env_vars={"B": "2", "A": "1"})
    assert environments.key_of(one) == environments.key_of(other) != ""
    assert environments.key_of(resolve(tmp_path, env_vars={"A": "2"})) != environments.key_of(one)
    assert environments.key_of({}) == ""


def test_what_is_published_is_found_by_its_key(tmp_path):
    resolved = resolve(tmp_path, env_vars={"A": "1"}, worker_process_setup_hook=lambda: None)
    key = environments.publish(resolved, str(tmp_path))
    assert environments.publish(resolved, str(tmp_path)) == key
    assert environments.load(key, str(tmp_path)) == resolved
    assert environments.load("", str(tmp_path)) == {}
    for unknown in ("abc", "../x", "/etc/passwd"):
        with pytest.raises(OSError):
            environments.load(unknown, str(tmp_path))


def test_variables_are_merged_and_other_fields_replaced():
    parent = {"env_vars": {"A": "1", "B": "1"}, "working_dir": "/parent", "hook": "a.b"}
    child = {"env_vars": {"B": "2", "C": "3"}, "working_dir": "/child"}
    assert environments.merge(parent, child) == {
        "env_vars": {"A": "1", "B": "2", "C": "3"},
        "working_dir": "/child",
        "hook": "a.b",
    }
    assert environments.merge(parent, {}) == parent
    assert environments.merge({}, child) == child


def test_a_variable_of_a_child_can_name_the_parents():
    merged = environments.merge({"env_vars": {"P": "/a"}}, {"env_vars": {"P": "${P}:/b", "Q": "${HOME}"}})
    assert merged["env_vars"] == {"P": "/a:/b", "Q": "${HOME}"}


def test_an_interpreter_of_the_child_s_replaces_the_parent_s_packages():
    assert environments.merge({"pip": {}}, {"py_executable": "x"}) == {"py_executable": "x"}
    assert environments.merge({"py_executable": "x"}, {"pip": {}}) == {"pip": {}}


def test_variables_stand_for_what_was_before():
    before = {"PATH": "/bin", "A": "old"}
    variables = {"PATH": "/mine:${PATH}", "A": "${A}", "B": "${A}${NONE}", "C": "$A"}
    assert environments.expand(variables, before) == {"PATH": "/mine:/bin", "A": "old", "B": "old", "C": "$A"}


def test_most_environments_are_had_by_a_fork(tmp_path):
    assert environments.command_of(resolve(tmp_path, env_vars={"A": "1"}), "python") is None
    for name in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH", "PYTHONHASHSEED"):
        assert environments.command_of(resolve(tmp_path, env_vars={name: "1"}), "python") == ["python"]
    command = environments.command_of(resolve(tmp_path, py_executable="'/a b/python' -X dev"), "python")
    assert command == ["/a b/python", "-X", "dev"]


def test_packages_are_known_by_their_content(tmp_path):
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    (tmp_path / "requirements.txt").write_text(f"# comment\n\n{wheel}\nother==1\n")
    keys = []
    for content in ("one", "two"):
        wheel.write_text(content)
        by_list = resolve(tmp_path, pip=[str(wheel), "other==1"])
        by_file = resolve(tmp_path, pip=str(tmp_path / "requirements.txt"))
        assert by_list == by_file
        keys.append(environments.cached_of(by_list).path)
    assert len(set(keys)) == 2
    with pytest.raises(ValueError, match="cannot be read"):
        resolve(tmp_path, pip=str(tmp_path / "nothing.txt"))


@pytest.mark.parametrize("fields", [{"working_dir": "/not/there"}, {"py_modules": ["/not/there"]}])
def test_what_is_not_there(tmp_path, fields):
    with pytest.raises(ValueError, match="there is no /not/there"):
        resolve(tmp_path, **fields)


class TestCache:
    def made(self, root, name, size_bytes):
        cached = CachedEnvironment(name, str(root))
        lock = cached.lock_to_build()
        os.makedirs(cached.path)
        with open(os.path.join(cached.path, "data"), "wb") as file:
            file.write(b"x" * size_bytes)
        assert cached.lock_to_use() is None, "it is not complete"
        cached.mark_complete()
        assert cached.lock_to_use() is None, "its builder has the lock"
        os.close(lock)
        return cached

    def test_what_was_not_used_for_longest_goes_first(self, tmp_path, monkeypatch):
        made = [self.made(tmp_path, f"{i}", 100_000) for i in range(4)]
        for i, cached in enumerate(made):
            os.utime(os.path.join(cached.path, ".complete"), (i, i))
        used = made[0].lock_to_use()  # in use, and now also the one used last
        os.utime(os.path.join(made[0].path, ".complete"), (0, 0))
        monkeypatch.setenv("ORCHESTRATOR_RUNTIME_ENV_PIP_CACHE_SIZE_GB", "0.00025")
        removed = make_room(str(tmp_path), keep=made[1].path)
        assert removed == [made[2].path, made[3].path], "neither what is in use nor what was just built"
        os.close(used)
        assert make_room(str(tmp_path), keep=made[1].path) == []
        assert made[0].complete and made[1].complete
        monkeypatch.setenv("ORCHESTRATOR_RUNTIME_ENV_PIP_CACHE_SIZE_GB", "0")
        assert make_room(str(tmp_path), keep="") == [made[0].path, made[1].path]
        assert os.listdir(tmp_path) == []
