"""What a user may write as a runtime environment, and what is refused at once."""

from __future__ import annotations

import json as some_module
import os
import pickle

import pytest

import orchestrator as ray
from orchestrator.common.runtime_env import FIELDS
from orchestrator.runtime_env import RuntimeEnv, RuntimeEnvConfig


def test_a_dict_and_the_class_are_the_same():
    env = RuntimeEnv(env_vars={"A": "1"}, working_dir="/x")
    assert env == RuntimeEnv.of({"env_vars": {"A": "1"}, "working_dir": "/x"}) == env.to_dict()
    assert RuntimeEnv.of(env) is env
    assert pickle.loads(pickle.dumps(env)) == env


def test_relative_paths_are_meant_from_where_they_were_written():
    env = RuntimeEnv(working_dir="here", py_modules=["./there"], pip="requirements.txt")
    here = os.getcwd()
    assert env["working_dir"] == os.path.join(here, "here")
    assert env["py_modules"] == [os.path.join(here, "there")]
    assert env["pip"]["packages"] == os.path.join(here, "requirements.txt")


def test_modules_stand_for_their_files():
    assert RuntimeEnv(py_modules=[some_module])["py_modules"] == [os.path.dirname(some_module.__file__)]


def test_what_is_none_is_left_out():
    assert RuntimeEnv(env_vars=None, pip=None) == {}


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"env_var": {}}, ValueError, "'env_var' is not a field.*env_vars.*working_dir"),
        ({"conda": "x"}, ValueError, "'conda' is not a field.*py_executable"),
        ({"image_uri": "x"}, ValueError, "container"),
        ({"env_vars": {"A": 1}}, TypeError, "'A': 1"),
        ({"env_vars": ["A"]}, TypeError, "dict of str to str"),
        ({"env_vars": {"A=B": "1"}}, ValueError, "no name"),
        ({"working_dir": 5}, TypeError, "a path, not int"),
        ({"working_dir": ""}, ValueError, "empty"),
        ({"working_dir": "s3://bucket/x.zip"}, ValueError, "only local paths"),
        ({"py_modules": "x"}, TypeError, "a list"),
        ({"excludes": "*.txt"}, TypeError, "a list"),
        ({"pip": 5}, TypeError, "a list"),
        ({"pip": [5]}, TypeError, "has 5"),
        ({"pip": {"packages": ["a"], "colour": 1}}, ValueError, "'colour'.*packages"),
        ({"pip": {}}, ValueError, "packages"),
        ({"pip": {"packages": [], "pip_check": 1}}, TypeError, "pip_check"),
        ({"pip": ["a"], "py_executable": "x"}, ValueError, "exclude each other"),
        ({"py_executable": " "}, ValueError, "empty"),
        ({"worker_process_setup_hook": "function"}, ValueError, "module.function"),
        ({"worker_process_setup_hook": 5}, TypeError, "a function"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "> 0"),
        ({"config": {"setup_timeout_seconds": "1"}}, TypeError, "an int"),
        ({"config": {"log_files": []}}, ValueError, "'log_files'"),
    ],
)
def test_what_is_wrong_raises_where_it_is_written(fields, error, text):
    with pytest.raises(error, match=text):
        RuntimeEnv(**fields)
    with pytest.raises(error, match=text):
        ray.remote(runtime_env=fields)(lambda: None)
    with pytest.raises(error, match=text):
        ray.init(runtime_env=fields)
    assert not ray.is_initialized()


def test_an_option_that_is_no_environment():
    with pytest.raises(TypeError, match="a dict or a RuntimeEnv, not str"):
        ray.remote(runtime_env="x")(lambda: None)


def test_config():
    assert (
        RuntimeEnv(config=RuntimeEnvConfig(setup_timeout_seconds=5))["config"]["setup_timeout_seconds"] == 5
    )
    assert RuntimeEnv(config={"setup_timeout_seconds": -1})["config"]["setup_timeout_seconds"] == -1


def test_the_fields_are_in_order():
    assert list(FIELDS) == sorted(FIELDS)


def test_the_methods_of_an_environment():
    env = RuntimeEnv(env_vars={"A": "1"}, pip=["x"], config={"setup_timeout_seconds": 5})
    assert (env.env_vars(), env.working_dir(), env.py_modules()) == ({"A": "1"}, "", [])
    assert (env.py_executable(), env.has_working_dir(), env.has_pip()) == (None, False, True)
    assert env.pip_config()["packages"] == ["x"]
    env.set("working_dir", "/somewhere")
    assert env.working_dir() == env["working_dir"] == "/somewhere" and env.has_working_dir()
    env.set("env_vars", {"B": "2"})
    assert env.env_vars() == {"B": "2"}
    for name, value, error in (("env_vars", 5, TypeError), ("env_var", {}, ValueError)):
        with pytest.raises(error):
            env.set(name, value)


def test_an_environment_as_text_and_as_a_dict():
    env = RuntimeEnv(env_vars={"A": "1"}, pip=["x"], config={"setup_timeout_seconds": 5})
    again = RuntimeEnv.deserialize(env.serialize())
    assert again == env and type(again) is RuntimeEnv
    plain = env.to_dict()
    assert plain == env and {type(plain), type(plain["config"])} == {dict}
    plain["env_vars"]["A"] = "2"
    assert env.env_vars() == {"A": "1"}, "it is a copy"
    assert pickle.loads(pickle.dumps(env)) == env
    with pytest.raises(TypeError, match="JSON"):
        RuntimeEnv(worker_process_setup_hook=print).serialize()
