"""`LoggingConfig` and the levels and formats of messages, in whole programs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import orchestrator as ray

PROGRAM = """
import logging
import orchestrator as ray

ray.init(num_cpus=1, logging_config=ray.LoggingConfig({config}))
log = logging.getLogger("mine")

@ray.remote
def task():
    log.debug("not shown")
    log.info("in a task", extra={{"epoch": 3}})
    return ray.get_runtime_context().get_task_id()

@ray.remote
class Actor:
    def act(self):
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("in an actor")

log.warning("in the driver")
task_id = ray.get(task.remote())
actor = Actor.options(name="anton").remote()
ray.get(actor.act.remote())
print(task_id)
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


class TestLoggingConfig:
    def test_json_records_have_the_ids_of_where_they_come_from(self):
        out, err = run(PROGRAM.format(config="encoding='JSON', additional_log_standard_attrs=['name']"))
        records = {record["message"]: record for record in map(json.loads, err.splitlines())}
        assert set(records) == {"in the driver", "in a task", "in an actor"}
        driver, task, actor = (records[f"in {what}"] for what in ("the driver", "a task", "an actor"))
        assert driver["levelname"] == "WARNING" and driver["name"] == "mine" and "task_id" not in driver
        assert task["task_id"] == out.strip() and task["task_func_name"] == "task" and task["epoch"] == 3
        assert actor["actor_name"] == "anton" and len(actor["actor_id"]) == 32
        assert "ZeroDivisionError" in actor["exc_text"]
        assert driver["job_id"] == task["job_id"] == actor["job_id"]
        assert driver["node_id"] == task["node_id"]
        assert len({record["worker_id"] for record in (driver, task)}) == 2

    def test_text_records_are_lines_with_pairs(self):
        _, err = run(PROGRAM.format(config="log_level='INFO'"))
        (line,) = [line for line in err.splitlines() if "in a task" in line]
        assert line.startswith("(worker pid=") and "INFO" in line and "-- in a task job_id=" in line
        assert "epoch=3" in line and "task_func_name=task" in line

    def test_levels_count(self):
        _, err = run(PROGRAM.format(config="log_level='ERROR'"))
        assert "in a task" not in err and "in the driver" not in err and "in an actor" in err

    @pytest.mark.parametrize(
        ("keywords", "error", "text"),
        [
            ({"encoding": "XML"}, ValueError, "TEXT, JSON"),
            ({"log_level": "LOUD"}, ValueError, "DEBUG, INFO"),
            ({"log_level": 1.5}, TypeError, "not float"),
            ({"additional_log_standard_attrs": ["nome"]}, ValueError, "'nome' is not an attribute"),
            ({"additional_log_standard_attrs": "name"}, TypeError, "a list"),
        ],
    )
    def test_wrong_values(self, keywords, error, text):
        with pytest.raises(error, match=text):
            ray.LoggingConfig(**keywords)

    def test_the_root_logger_is_left_alone_without_one(self):
        _, err = run(
            "import logging, orchestrator as ray\n"
            "ray.init(num_cpus=1)\n"
            "assert not logging.getLogger().handlers and not logging.getLogger('orchestrator').handlers\n"
        )
        assert err == ""


class TestOwnMessages:
    """What this package itself has to say goes through the logger `orchestrator`."""

    WARNS = (
        "import logging, orchestrator as ray\n"
        "{before}\n"
        "ray.init(num_cpus=1, {keywords})\n"
        "done = ray.remote(lambda: 1).remote()\n"
        "ray.get(done)\n"
        "done.add_done_callback(lambda ref: 1 / 0)\n"
    )

    @pytest.mark.parametrize(
        ("keywords", "before", "begins"),
        [
            ("", "", "orchestrator: a callback raised"),
            ("logging_format='%(levelname)s|%(message)s'", "", "WARNING|a callback raised"),
            ("configure_logging=False", "logging.basicConfig(format='mine %(message)s')", "mine a callback"),
        ],
    )
    def test_are_shown_as_asked(self, keywords, before, begins):
        _, err = run(self.WARNS.format(keywords=keywords, before=before))
        assert err.startswith(begins) and "ZeroDivisionError" in err

    def test_or_not_at_all(self):
        assert run(self.WARNS.format(keywords="logging_level='ERROR'", before="")) == ("", "")
        assert run(self.WARNS.format(keywords="logging_level='error'", before="")) == ("", "")


class TestWhatWorkersPrint:
    PRINTS = (
        "import orchestrator as ray\n"
        "ray.init(num_cpus=1, {keywords})\n"
        "ray.get(ray.remote(lambda: print('hello')).remote())\n"
    )

    def test_is_shown_unless_it_is_not_wanted(self, monkeypatch):
        monkeypatch.delenv("ORCHESTRATOR_LOG_TO_DRIVER", raising=False)
        assert ") hello" in run(self.PRINTS.format(keywords=""))[0]
        assert run(self.PRINTS.format(keywords="log_to_driver=False")) == ("", "")
        monkeypatch.setenv("RAY_LOG_TO_DRIVER", "0")
        assert run(self.PRINTS.format(keywords="")) == ("", "")
        assert ") hello" in run(self.PRINTS.format(keywords="log_to_driver=True"))[0]

    def test_repetitions_of_many_workers_are_counted(self, monkeypatch):
        monkeypatch.setenv("ORCHESTRATOR_DEDUP_LOGS", "1")
        out, _ = run(
            "import orchestrator as ray\n"
            "ray.init(num_cpus=1)\n"
            "@ray.remote\n"
            "class Loud:\n"
            "    def say(self, i): print('ready, number', i)\n"
            "actors = [Loud.remote() for _ in range(4)]\n"
            "for i, actor in enumerate(actors): ray.get(actor.say.remote(i))\n"
        )
        first, last = out.splitlines()
        assert first.endswith("ready, number 0") and last.endswith("number 3 [repeated 3x by other workers]")
