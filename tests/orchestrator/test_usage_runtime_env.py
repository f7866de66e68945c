"""Tasks and actors in environments of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator

import psutil
import pytest

import orchestrator as ray
from orchestrator.exceptions import RuntimeEnvSetupError
from orchestrator.runtime_env import RuntimeEnv


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[str]:
    """A cache of built environments for these tests alone."""
    path = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATOR_CACHE_DIR", path)
        yield path


@pytest.fixture(scope="module")
def one_session(cache) -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=1 << 30)
    yield
    ray.shutdown()


@pytest.fixture
def session(one_session) -> Iterator[None]:
    """Whatever an environment does to its own workers, plain ones go on."""
    yield
    assert ray.get(variable.remote("NOT_SET"), timeout=60) is None


@ray.remote
def variable(name):
    return os.environ.get(name)


@ray.remote
def pid():
    return os.getpid()


@ray.remote
def evaluate(expression):
    return eval(expression, {"os": os, "sys": sys})


class TestVariables:
    def test_of_a_task(self, session):
        assert ray.get(variable.options(runtime_env={"env_vars": {"A": "1"}}).remote("A")) == "1"
        assert ray.get(variable.remote("A")) is None
        assert "A" not in os.environ

    def test_of_a_decorated_function_and_a_class(self, session):
        @ray.remote(runtime_env=RuntimeEnv(env_vars={"A": "f"}))
        def function():
            return os.environ["A"]

        @ray.remote(runtime_env={"env_vars": {"A": "c"}})
        class Actor:
            def get(self):
                return os.environ["A"]

        assert ray.get(function.remote()) == "f"
        assert ray.get(Actor.remote().get.remote()) == "c"
        assert ray.get(Actor.options(runtime_env={"env_vars": {"A": "o"}}).remote().get.remote()) == "o"

    def test_can_name_what_was_before(self, session):
        env = {"env_vars": {"PATH": "/mine:${PATH}", "NOTHING": "<${NOT_SET}>"}}
        assert ray.get(variable.options(runtime_env=env).remote("PATH")) == f"/mine:{os.environ['PATH']}"
        assert ray.get(variable.options(runtime_env=env).remote("NOTHING")) == "<>"

    def test_workers_are_shared_by_equal_environments_only(self, session):
        def pids(env):
            return {ray.get(pid.options(runtime_env=env).remote()) for _ in range(5)}

        plain, one, two = pids(None), pids({"env_vars": {"A": "1"}}), pids({"env_vars": {"A": "2"}})
        assert not plain & one and not plain & two and not one & two
        assert pids({"env_vars": {"A": "1"}}) & one

    def test_that_libraries_read_when_they_are_loaded(self, session):
        """Such variables get an interpreter of their own, rather than a fork that has loaded everything."""
        env = {"env_vars": {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "7"}}
        code = "(os.environ['OMP_NUM_THREADS'], hash('x'))"
        first, second = (ray.get(evaluate.options(runtime_env=env).remote(code)) for _ in range(2))
        assert first == second and first[0] == "3"
        assert ray.get(evaluate.options(runtime_env={"env_vars": {"TZ": "Etc/GMT-5"}}).remote(
            "__import__('time').timezone")) == -5 * 3600  # fmt: skip

    def test_many_at_once(self, session):
        names = [f"{i}" for i in range(6)]
        refs = [variable.options(runtime_env={"env_vars": {"A": name}}).remote("A") for name in names * 3]
        assert ray.get(refs, timeout=100) == names * 3


class TestInheritance:
    def test_children_inherit_and_may_say_more(self, session):
        @ray.remote
        def parent():
            more = variable.options(runtime_env={"env_vars": {"B": "${A}2", "C": "3"}})
            return [
                ray.get([variable.remote(name) for name in "ABC"]),
                ray.get([more.remote(name) for name in "ABC"]),
            ]

        env = {"env_vars": {"A": "1", "B": "1"}}
        assert ray.get(parent.options(runtime_env=env).remote(), timeout=60) == [
            ["1", "1", None],
            ["1", "12", "3"],
        ]

    def test_through_actors_too(self, session):
        @ray.remote
        class Inner:
            def get(self):
                return os.environ.get("A"), os.getcwd()

        @ray.remote
        class Outer:
            def get(self):
                return ray.get(Inner.remote().get.remote()), os.getcwd()

        outer = Outer.options(runtime_env={"env_vars": {"A": "1"}, "working_dir": "."}).remote()
        (value, inner_place), place = ray.get(outer.get.remote(), timeout=60)
        assert value == "1" and inner_place == place != os.getcwd()

    def test_the_context_tells(self, session):
        @ray.remote
        def tell():
            context = ray.get_runtime_context()
            return context.runtime_env, context.get_runtime_env_string()

        assert ray.get(tell.remote()) == ({}, "{}")
        env = {"env_vars": {"A": "1"}, "config": {"setup_timeout_seconds": 9}}
        told, text = ray.get(tell.options(runtime_env=env).remote())
        assert told == env and '"A": "1"' in text


@pytest.fixture
def project(tmp_path):
    """A directory with a module, a package and data."""
    (tmp_path / "helper.py").write_text("def answer(): return 42\n")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "__init__.py").write_text("NAME = 'things'\n")
    (tmp_path / "data.txt").write_text("data")
    (tmp_path / "big.bin").write_text("x")
    return tmp_path


class TestDirectories:
    def test_working_dir(self, session, project):
        @ray.remote(runtime_env={"working_dir": str(project), "excludes": ["*.bin"]})
        def look():
            import helper

            with open("data.txt") as file:
                return helper.answer(), file.read(), sorted(os.listdir()), os.getcwd()

        value, text, names, place = ray.get(look.remote(), timeout=60)
        assert (value, text) == (42, "data")
        assert names == ["__pycache__", "data.txt", "helper.py", "things"] or "big.bin" not in names
        assert place != str(project), "it is a copy: what a worker writes there stays there"

    def test_a_loop_copies_once(self, session, project):
        first = None
        for i in range(50):
            env = {"working_dir": str(project), "worker_process_setup_hook": os.getpid}
            place = ray.get(evaluate.options(runtime_env=env).remote("os.getcwd()"), timeout=60)
            (project / "data.txt").write_text(f"changed {i}")
            first = first or place
            assert place == first
        env["excludes"] = ["data.txt"]
        assert ray.get(evaluate.options(runtime_env=env).remote("os.getcwd()"), timeout=60) != first

    def test_a_zip_file(self, session, project):
        path = project / "all.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(project / "helper.py", "helper.py")
        env = {"working_dir": path}
        assert ray.get(evaluate.options(runtime_env=env).remote("__import__('helper').answer()")) == 42

    def test_py_modules(self, session, project):
        env = {"py_modules": [str(project / "things"), str(project / "helper.py")]}
        code = "(__import__('things').NAME, __import__('helper').answer(), os.getcwd())"
        assert ray.get(evaluate.options(runtime_env=env).remote(code)) == ("things", 42, os.getcwd())

    def test_what_is_not_there_is_said_by_the_call(self, session):
        with pytest.raises(ValueError, match="there is no /not/there"):
            pid.options(runtime_env={"working_dir": "/not/there"}).remote()


class TestHook:
    def test_a_function_is_called_before_any_task(self, session):
        def hook():
            sys.hook_was_here = os.getpid()

        env = {"worker_process_setup_hook": hook}
        code = "sys.hook_was_here == os.getpid()"
        assert ray.get(evaluate.options(runtime_env=env).remote(code)) is True

    def test_by_name(self, session, project):
        (project / "hooks.py").write_text("import os\ndef mark(): os.environ['MARK'] = 'x'\n")
        env = {"working_dir": str(project), "worker_process_setup_hook": "hooks.mark"}
        assert ray.get(variable.options(runtime_env=env).remote("MARK")) == "x"

    def test_one_that_fails(self, session):
        with pytest.raises(RuntimeEnvSetupError, match=r"no worker starts(.|\n)*ZeroDivisionError"):
            ray.get(
                pid.options(runtime_env={"worker_process_setup_hook": lambda: 1 / 0}).remote(), timeout=60
            )


class TestInterpreter:
    def test_another_command(self, session):
        env = {"py_executable": f"{sys.executable} -X dev"}
        code = "(sys.flags.dev_mode, sys.executable, os.getcwd())"
        told = ray.get(evaluate.options(runtime_env=env).remote(code), timeout=60)
        assert told == (True, sys.executable, os.getcwd())

    @pytest.mark.parametrize(
        ("command", "text"),
        [
            ("/not/there/python", "cannot be started"),
            ("false", "code 1"),
            ("sh -c 'echo no >&2; exit 3' ", "no"),
        ],
    )
    def test_one_that_does_not_work(self, session, command, text):
        with pytest.raises(RuntimeEnvSetupError, match=text):
            ray.get(pid.options(runtime_env={"py_executable": command}).remote(), timeout=60)

    def test_an_actor_in_one_that_does_not_work(self, session):
        @ray.remote
        class Actor:
            def get(self):
                return 1

        actor = Actor.options(runtime_env={"py_executable": "/not/there/python"}).remote()
        with pytest.raises(RuntimeEnvSetupError, match="cannot be started"):
            ray.get(actor.get.remote(), timeout=60)


def make_wheel(folder, version):
    """Write a wheel of a package `tiny` of this version; no tool is needed for that."""
    info = f"tiny-{version}.dist-info"
    path = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        make_wheel(folder, version)
    return folder


def builders():
    """The pids of the processes that build environments below this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        if "pip_builder" in " ".join(child.cmdline()):
            found.append(child.pid)
    return found


def offline(wheels, *packages):
    options = ["--no-index", "--find-links", str(wheels)]
    return {"pip": {"packages": list(packages), "pip_install_options": options}}


TINY = "(__import__('tiny').VERSION, __import__('numpy').__name__, sys.prefix, os.environ['VIRTUAL_ENV'])"


class TestPackages:
    def test_are_there_on_top_of_what_is_here(self, session, wheels, cache):
        for version in ("1.0", "2.0"):
            env = offline(wheels, f"tiny=={version}")
            told = ray.get(evaluate.options(runtime_env=env).remote(TINY), timeout=100)
            assert told[:2] == (version, "numpy")
            assert told[2] == told[3] and told[2].startswith(cache)
        with pytest.raises(ModuleNotFoundError):
            ray.get(evaluate.remote(TINY))

    def test_from_files(self, session, wheels, tmp_path):
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"--no-index\n--find-links {wheels}\ntiny==1.0\n")
        for pip in (str(requirements), [str(wheels / "tiny-2.0-py3-none-any.whl")]):
            env = {"pip": {"packages": pip, "pip_install_options": ["--no-index"]}}
            version = ray.get(evaluate.options(runtime_env=env).remote(TINY), timeout=100)[0]
            assert version == ("1.0" if pip == str(requirements) else "2.0")

    def test_actors_and_children(self, session, wheels):
        @ray.remote
        class Actor:
            def versions(self):
                return ray.get(evaluate.remote(TINY))[0], __import__("tiny").VERSION

        actor = Actor.options(runtime_env=offline(wheels, "tiny==1.0")).remote()
        assert ray.get(actor.versions.remote(), timeout=100) == ("1.0", "1.0")

    def test_failing_shows_the_installers_last_lines(self, session, wheels):
        with pytest.raises(RuntimeEnvSetupError, match=r"last lines(.|\n)*tiny==3.0"):
            ray.get(pid.options(runtime_env=offline(wheels, "tiny==3.0")).remote(), timeout=100)

    def test_a_builder_that_is_killed_leaves_nothing_half(self, session, wheels, tmp_path, cache):
        project = tmp_path / "project"
        project.mkdir()
        marker = tmp_path / "first"
        (wheel,) = wheels.glob("tiny-1.0-*.whl")
        (project / "pyproject.toml").write_text(
            "[build-system]\nrequires = []\nbuild-backend = 'builder'\nbackend-path = ['.']\n"
        )
        (project / "builder.py").write_text(
            "import os, shutil, time\n"
            "def build_wheel(directory, config_settings=None, metadata_directory=None):\n"
            f"    if not os.path.exists({str(marker)!r}):\n"
            f"        open({str(marker)!r}, 'w').close()\n"
            "        time.sleep(1000)\n"
            f"    return os.path.basename(shutil.copy({str(wheel)!r}, directory))\n"
        )
        env = offline(wheels, str(project))
        env["pip"]["pip_install_options"] += ["--no-build-isolation"]
        ref = evaluate.options(runtime_env=env).remote(TINY)
        while not marker.exists():
            assert ray.wait([ref], timeout=0.05)[0] == []
        (builder,) = builders()
        os.kill(builder, signal.SIGKILL)
        with pytest.raises(RuntimeEnvSetupError, match="could not be set up"):
            ray.get(ref, timeout=60)
        before = set(os.listdir(cache))
        assert ray.get(evaluate.options(runtime_env=env).remote(TINY), timeout=100)[0] == "1.0"
        assert set(os.listdir(cache)) == before, "what was half there was built anew, in its place"

    def test_too_slow(self, session, wheels, tmp_path):
        slow = tmp_path / "slow"
        slow.mkdir()
        (slow / "setup.py").write_text("import time; time.sleep(1000)")
        env = {**offline(wheels, str(slow)), "config": {"setup_timeout_seconds": 1}}
        env["pip"]["pip_install_options"] += ["--no-build-isolation"]
        with pytest.raises(RuntimeEnvSetupError, match="within 1 s"):
            ray.get(pid.options(runtime_env=env).remote(), timeout=100)


class TestSessions:
    """These have sessions of their own."""

    @pytest.fixture(autouse=True)
    def no_other_session(self) -> Iterator[None]:
        ray.shutdown()
        yield
        ray.shutdown()

    def test_the_environment_of_a_session(self, project):
        env = {"env_vars": {"A": "1"}, "working_dir": str(project)}
        with ray.init(num_cpus=1, runtime_env=env):
            assert ray.get(variable.remote("A")) == "1"
            assert ray.get(evaluate.remote("__import__('helper').answer()")) == 42
            both = ray.get(variable.options(runtime_env={"env_vars": {"B": "${A}2"}}).remote("B"))
            assert both == "12"
            assert ray.get_runtime_context().runtime_env["env_vars"] == {"A": "1"}

    def test_in_one_process_there_is_one_environment(self):
        with ray.init(mode="inline"):
            with pytest.warns(UserWarning, match="runtime_env has no effect"):
                ref = variable.options(runtime_env={"env_vars": {"A": "1"}}).remote("A")
            assert ray.get(ref) is None and ray.get_runtime_context().runtime_env == {}

    def test_one_that_names_what_is_not_there(self):
        with pytest.raises(ValueError, match="there is no /not/there"):
            ray.init(num_cpus=1, runtime_env={"working_dir": "/not/there"})
        assert not ray.is_initialized()

    def test_functions_are_prepared_anew_for_the_next_session(self, project):
        look = variable.options(runtime_env={"env_vars": {"A": "1"}, "working_dir": str(project)})
        for _ in range(2):
            with ray.init(num_cpus=1):
                assert ray.get(look.remote("A"), timeout=60) == "1"

    def test_sessions_at_the_same_time_build_once(self, wheels, tmp_path, monkeypatch):
        monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path))
        program = (
            "import sys, orchestrator as ray\n"
            "ray.init(num_cpus=1)\n"
            f"env = {offline(wheels, 'tiny==1.0')!r}\n"
            "prefix = ray.remote(lambda: (sys.prefix, __import__('os').stat(sys.prefix).st_ino))\n"
            "print(ray.get(prefix.options(runtime_env=env).remote()))\n"
        )
        results = []

        def run():
            import subprocess

            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
            )
            results.append(done.stdout or done.stderr)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 3 and len(set(results)) == 1 and str(tmp_path) in results[0]
        assert len([name for name in os.listdir(tmp_path) if not name.endswith(".lock")]) == 1
