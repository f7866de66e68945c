"""Jobs of other nodes: their node says that they begin, the head that they end, in any order."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.common.ids import Process
from orchestrator.node.environment_desk import EARLY_MAX_S, EnvironmentDesk
from orchestrator.node.jobs_abroad import JobsAbroad
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import JobTable, key_of

DRIVER, STAND_IN = 5, 77
SPEC = {"namespace": "n", "is_anonymous": False, "pid": 1, "argv": ["program"]}


class Node:
    """Member, daemon, stand-ins and actors in one."""

    index = here = 2
    node_id = "two"
    address = STAND_IN

    def __init__(self, folder: Path) -> None:
        (folder / "jobs").mkdir()
        self.session_dir = str(folder)
        self.stand_ins = self.actors = self.names = self
        self.environments = EnvironmentDesk(str(folder), self.tell_scheduler, lambda jobs, text: None)
        self.jobs = JobTable()
        self.scheduled: list[Any] = []
        self.abroad = JobsAbroad(self, self)  # type: ignore[arg-type]

    def of(self, process: Process) -> Node:
        assert process == Process(1, DRIVER)
        return self

    def detached_jobs(self) -> set[str]:
        return set()

    def tell_scheduler(self, event: Any) -> None:
        self.scheduled.append(event)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def begin(node: Node) -> None:
    facts = {"driver_cwd": "/", "driver_sys_path": []}
    node.abroad.on_job(1, {"job": "j", "driver": DRIVER, "facts": facts, "spec": SPEC, "places": []})


def test_a_job_begins_and_ends(node: Node) -> None:
    begin(node)
    assert node.jobs.driver_of("j") == STAND_IN
    node.abroad.on_job_over("j")
    assert [type(event) for event in node.scheduled] == [events.JobBegan, events.JobEnded]
    assert not list(node.jobs.running())


def test_the_head_may_say_that_it_is_over_before_its_node_says_that_it_has_begun(node: Node) -> None:
    node.abroad.on_job_over("j")
    begin(node)
    assert node.scheduled == [] and not list(node.jobs.running())


def test_workers_for_a_job_that_is_not_known_yet_wait_for_the_news_of_it(node: Node) -> None:
    """A third node asks for a worker before the job's own has told of the job."""
    node.environments.prepare(key_of("j", ""))
    assert node.scheduled == []
    begin(node)
    assert node.scheduled == [events.JobBegan("j"), events.EnvironmentReady(key_of("j", ""))]
    node.environments.prepare(key_of("j", ""))
    assert len(node.scheduled) == 3, "known from now on"


def test_nobody_waits_for_ever_for_word_of_a_job(node: Node) -> None:
    node.environments.prepare(key_of("j", ""))
    node.environments.tick(time.monotonic() + EARLY_MAX_S - 1)
    assert node.scheduled == []
    node.environments.tick(time.monotonic() + EARLY_MAX_S + 1)
    (failed,) = node.scheduled
    assert failed.env == key_of("j", "") and "nothing of job j" in failed.cause
    begin(node)
    assert [type(event) for event in node.scheduled[1:]] == [events.JobBegan]


def test_the_head_tells_all_of_a_job_that_is_over_and_has_detached_actors(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that joined while the job's own was silent has never heard of it."""
    told: list[tuple[int, dict[str, Any]]] = []
    monkeypatch.setattr(node, "detached_jobs", lambda: {"j"})
    monkeypatch.setattr(node, "head_index", node.here, raising=False)
    monkeypatch.setattr(node, "head", node, raising=False)
    monkeypatch.setattr(node, "peers", {1, 3}, raising=False)
    monkeypatch.setattr(node, "tell", lambda peer, message: told.append((peer, message)), raising=False)
    begin(node)
    node.abroad.driver_gone(STAND_IN)
    assert [(peer, message["job"], message["over"]) for peer, message in told] == [
        (1, "j", True),
        (3, "j", True),
    ]
