"""`init`: its keywords, what it returns, and which calls do without it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

import pytest

import orchestrator as ray
from orchestrator.api import init_options
from orchestrator.exceptions import SessionError
from orchestrator.node.session_dir import sweep_dead_sessions
from orchestrator.node.system import children_of


@ray.remote
def double(x):
    return 2 * x


@pytest.fixture(autouse=True)
def no_session_before_or_after(monkeypatch) -> Iterator[None]:
    for name in ("ADDRESS", "NAMESPACE", "ENABLE_AUTO_CONNECT", "LOG_TO_DRIVER"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)
        monkeypatch.delenv(f"RAY_{name}", raising=False)
    assert not ray.is_initialized()
    yield
    ray.shutdown()


class TestKeywords:
    @pytest.mark.parametrize(
        ("keyword", "value", "error", "text"),
        [
            ("num_cpus", "2", TypeError, "a number, not str"),
            ("num_cpus", True, TypeError, "a number, not bool"),
            ("num_cpus", -1, ValueError, ">= 0"),
            ("num_cpus", float("nan"), ValueError, "finite"),
            ("num_gpus", "1", TypeError, "a number"),
            ("resources", ["x"], TypeError, "dict of name to number"),
            ("resources", {"x": "1"}, TypeError, r"resources\['x'\]"),
            ("resources", {"CPU": 1}, ValueError, "num_cpus="),
            ("labels", {"zone": 1}, TypeError, "dict of str to str"),
            ("object_store_memory", 1e9, TypeError, "an int, not float"),
            ("object_store_memory", -5, ValueError, ">= 0"),
            ("object_store_memory", 75, ValueError, "1 MiB"),
            ("object_store_memory", 1 << 50, ValueError, "64 TiB"),
            ("ignore_reinit_error", 1, TypeError, "True or False"),
            ("log_to_driver", "no", TypeError, "True or False"),
            ("namespace", 5, TypeError, "a str"),
            ("namespace", "", ValueError, "empty"),
            ("logging_level", "LOUD", ValueError, "DEBUG, INFO"),
            ("logging_level", None, None, ""),
            ("logging_config", {"encoding": "JSON"}, TypeError, "LoggingConfig"),
            ("runtime_env", "x", TypeError, "dict or a RuntimeEnv"),
            ("local_mode", True, ValueError, 'mode="inline"'),
            ("include_dashboard", True, ValueError, "no dashboard"),
            ("job_config", object(), ValueError, "runtime_env="),
            ("enable_resource_isolation", True, ValueError, "cgroup"),
            ("cgroup_path", "/x", ValueError, "enable_resource_isolation"),
            ("_temp_dir", 5, TypeError, "a str"),
        ],
    )
    def test_wrong_values_raise_at_once(self, keyword, value, error, text):
        if error is None:
            init_options.check({keyword: value})
            return
        with pytest.raises(error, match=text):
            ray.init(**{keyword: value})
        assert not ray.is_initialized()

    def test_an_unknown_keyword_is_answered_with_the_one_that_may_be_meant(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'num_cpu'; did you mean 'num_cpus'"):
            ray.init(num_cpu=2)
        with pytest.raises(TypeError, match=r"'qqq'.*namespace"):
            ray.init(qqq=None)

    def test_rays_keywords_are_accepted(self):
        """Each of them is used, or without effect for a reason that is written down."""
        ray.init(
            num_cpus=1,
            num_gpus=0,
            resources={"slot": 2},
            labels={"zone": "a"},
            object_store_memory=200 << 20,
            local_mode=False,
            include_dashboard=False,
            dashboard_host="0.0.0.0",
            dashboard_port=8265,
            configure_logging=True,
            logging_level="WARNING",
            logging_format="%(message)s",
            log_to_driver=False,
            namespace="n",
            proxy_server_url=None,
            _node_name="x",
            _system_config={"x": 1},
            _metrics_export_port=1234,
        )
        assert ray.cluster_resources()["slot"] == 2
        assert ray.get_runtime_context().namespace == "n"
        assert ray.get_runtime_context().get_node_labels()["zone"] == "a"
        assert all(init_options.WITHOUT_EFFECT.values())

    @pytest.mark.parametrize(
        ("address", "text"),
        [
            ("auto", "no session stands on this machine.*orchestrator start --head"),
            ("127.0.0.1:1", "127.0.0.1:1 stands on this machine.*no session"),
            ("ray://head:10001", "there is no session at"),
            ("/nowhere/at/all", "there is no session at /nowhere/at/all"),
        ],
    )
    def test_an_address_at_which_no_session_stands(self, address, text, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        with pytest.raises(ConnectionError, match=text):
            ray.init(address=address)
        monkeypatch.setenv("ORCHESTRATOR_ADDRESS", address)
        with pytest.raises(ConnectionError, match=text):
            ray.init()
        if address != "auto":
            with pytest.raises(ConnectionError, match=text):
                ray.init("auto")
        with ray.init("local", num_cpus=1):
            assert ray.get(double.remote(1)) == 2

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("num_cpus", 2),
            ("num_gpus", 0),
            ("resources", {"slot": 1}),
            ("labels", {"zone": "a"}),
            ("object_store_memory", 200 << 20),
            ("mode", "inline"),
            ("_temp_dir", "/tmp"),
        ],
    )
    def test_what_is_about_the_start_of_a_session_cannot_be_said_to_one_that_stands(
        self, keyword, value, monkeypatch
    ):
        with pytest.raises(ValueError, match=f"{keyword}=.*address='auto'.*orchestrator start"):
            ray.init(address="auto", **{keyword: value})
        monkeypatch.setenv("ORCHESTRATOR_ADDRESS", "auto")
        with pytest.raises(ValueError, match=f"{keyword}=.*ORCHESTRATOR_ADDRESS=auto"):
            ray.init(**{keyword: value})

    def test_an_address_of_rays_in_the_environment_is_not_ours(self, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        with ray.init(num_cpus=1) as session:
            assert session["address"] == "local"

    def test_namespaces(self, monkeypatch):
        with ray.init(num_cpus=1) as first:
            pass
        with ray.init(num_cpus=1) as second:
            assert second.namespace != first.namespace, "a session without one has one of its own"
        monkeypatch.setenv("ORCHESTRATOR_NAMESPACE", "mine")
        with ray.init(num_cpus=1) as session:
            assert session.namespace == "mine"
        with ray.init(num_cpus=1, namespace="yours") as session:
            assert session.namespace == "yours"


class TestWhatItReturns:
    def test_a_mapping_of_facts(self):
        with ray.init(num_cpus=1) as context:
            assert isinstance(context, Mapping)
            assert context["node_id"] == ray.nodes()[0]["NodeID"] == context.address_info["node_id"]
            assert os.path.isdir(context["session_dir"])
            assert set(context) == set(context.address_info) and len(context) == len(context.address_info)
            assert context.dashboard_url is None and context.get("webui_url") is None
            assert "open" in repr(context) and "<table>" in context._repr_html_()
        assert not ray.is_initialized()
        assert "over" in repr(context)

    def test_disconnect_ends_its_own_session_only(self):
        first = ray.init(num_cpus=1)
        ray.shutdown()
        with ray.init(num_cpus=1):
            first.disconnect()
            assert ray.is_initialized()

    def test_twice(self):
        first = ray.init(num_cpus=1)
        with pytest.raises(RuntimeError, match="ignore_reinit_error"):
            ray.init()
        assert ray.init(num_cpus=7, ignore_reinit_error=True) is first
        assert ray.cluster_resources()["CPU"] == 1

    def test_in_a_worker(self):
        @ray.remote
        def nested():
            try:
                ray.init()
            except RuntimeError as error:
                with ray.init(ignore_reinit_error=True) as context:
                    pass
                return str(error), context["node_id"], ray.get(double.remote(4))

        with ray.init(num_cpus=1) as session:
            text, node_id, value = ray.get(nested.remote())
            assert "worker of a session" in text
            assert (node_id, value) == (session["node_id"], 8)

    def test_nodes_and_resources(self):
        with ray.init(num_cpus=3, resources={"slot": 1}, labels={"zone": "a"}):
            (node,) = ray.nodes()
            assert node["Alive"]
            assert node["Resources"]["CPU"] == 3 and node["Resources"]["slot"] == 1
            assert node["Labels"]["zone"] == "a"
            assert node["Labels"] == ray.get_runtime_context().get_node_labels()
            assert node["NodeID"] in node["Labels"].values(), "what a node knows of itself is there too"
            assert ray.available_resources()["CPU"] == 3

    def test_nothing_listens_on_a_port(self):
        with ray.init(num_cpus=1) as session:
            ray.get(double.remote(1))
            ours = [session.node_pid, os.getpid()]
            for pid in ours:
                ours += children_of(pid)
            sockets = set()
            for pid in ours:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
            listening = []
            for table in ("tcp", "tcp6"):
                with open(f"/proc/net/{table}") as file:
                    rows = [line.split() for line in file.readlines()[1:]]
                listening += [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
        assert listening == []

    def test_threads_that_begin_at_once_share_one_session(self):
        def program(i):
            results[i] = ray.get(double.remote(i), timeout=60)

        results = {}
        threads = [threading.Thread(target=program, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {i: 2 * i for i in range(6)}


class TestWithoutInit:
    @pytest.mark.parametrize(
        "call",
        [
            lambda: ray.put(1),
            lambda: ray.get([]),
            lambda: ray.wait([]),
            lambda: ray.get_runtime_context(),
            lambda: double.remote(1),
            lambda: ray.get_actor("nobody"),
        ],
        ids=["put", "get", "wait", "get_runtime_context", "remote", "get_actor"],
    )
    def test_these_start_a_session(self, call, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setenv("ORCHESTRATOR_ENABLE_AUTO_CONNECT", "0")
            with pytest.raises(SessionError, match=r"ENABLE_AUTO_CONNECT=0: call init\(\)"):
                call()
        with contextlib.suppress(ValueError):  # there is no actor of that name
            call()
        assert ray.is_initialized()

    @pytest.mark.parametrize("call", [ray.nodes, ray.cluster_resources, ray.available_resources])
    def test_these_do_not(self, call):
        with pytest.raises(SessionError, match=r"call init\(\) first"):
            call()
        assert not ray.is_initialized()


class TestSessionDirectory:
    def test_where_the_caller_wants_it(self, tmp_path):
        root = tmp_path / "new"
        with ray.init(num_cpus=1, _temp_dir=str(root)) as session:
            assert session.session_dir.startswith(str(root / f"orchestrator-{os.getuid()}" / "session-"))
            assert ray.get_runtime_context().get_temp_dir() == os.path.dirname(session.session_dir)
            assert oct(os.stat(session.session_dir).st_mode & 0o777) == "0o700"
        assert os.listdir(root) == []

    def test_what_a_killed_driver_and_node_left_is_swept(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True, timeout=60
        )
        path = done.stdout.strip()
        assert os.path.isdir(path), done.stderr
        now_s = os.stat(path).st_mtime + 100
        while os.path.exists(path):  # the node may still be dying, and hold the lock until it is dead
            sweep_dead_sessions(os.path.dirname(path), now_s=now_s)


#: Kills the node, then itself: nobody is left to tidy up.
_KILLED = """
import os, signal, sys
import orchestrator as ray
session = ray.init(num_cpus=1, _temp_dir=sys.argv[1])
print(session.session_dir, flush=True)
os.kill(session.node_pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestWhatWorkersCanImport:
    """Workers stand where the driver stands and import what it can."""

    def run(self, arguments, cwd, **environment):
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=cwd,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    PROGRAM = (
        "import os\n"
        "import orchestrator as ray\n"
        "import neighbour\n"
        "@ray.remote\n"
        "def where(x): return neighbour.twice(x), os.getcwd()\n"
        "ray.init(num_cpus=1)\n"
        "print(*ray.get(where.remote(2)), ray.get(ray.remote(neighbour.twice).remote(4)), sep='\\n')\n"
    )

    @pytest.fixture
    def place(self, tmp_path):
        folder = tmp_path / "project" / "package"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "neighbour.py").write_text("def twice(x): return 2 * x\n")
        (folder / "script.py").write_text(self.PROGRAM)
        (folder / "module.py").write_text(self.PROGRAM.replace("import n", "from package import n"))
        return tmp_path

    def test_a_script_in_another_directory(self, place):
        out = self.run([str(place / "project" / "package" / "script.py")], place)
        assert out == ["4", str(place), "8"]

    def test_a_module_of_a_package(self, place):
        out = self.run(["-m", "package.module"], place / "project")
        assert out == ["4", str(place / "project"), "8"]

    def test_a_program_without_a_file(self, place):
        """As in a notebook: `__main__` has no file, functions travel by value."""
        folder = place / "project" / "package"
        assert self.run(["-c", self.PROGRAM], folder) == ["4", str(folder), "8"]

    def test_paths_added_later_are_not_known_and_the_error_says_so(self, place):
        program = (
            "import sys\nimport orchestrator as ray\nray.init(num_cpus=1)\n"
            f"sys.path.append({str(place / 'project' / 'package')!r})\n"
            "import neighbour\n"
            "try: ray.get(ray.remote(neighbour.twice).remote(4))\n"
            "except ray.exceptions.TaskError as error: print(error)\n"
        )
        text = "\n".join(self.run(["-c", program], place))
        assert "No module named 'neighbour'" in text and "py_modules" in text
        assert f"looked in:\n    {place}\n" in text

    def test_paths_added_before_init(self, place):
        program = f"import sys; sys.path.insert(0, {str(place / 'project' / 'package')!r})\n" + self.PROGRAM
        assert self.run(["-c", program], place) == ["4", str(place), "8"]
