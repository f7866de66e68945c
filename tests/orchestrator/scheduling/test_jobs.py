"""Who works for whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.jobs import (
    OVER_MAX,
    PRIVATE,
    JobSpec,
    JobTable,
    environment_of,
    job_of,
    key_of,
)

SPEC = JobSpec("n", 7, ("main.py",))


@given(st.sampled_from(["", "a1", "b2"]), st.sampled_from(["", "e", "f00"]))
def test_a_key_says_job_and_environment(job: str, env: str) -> None:
    key = key_of(job, env)
    assert (job_of(key), environment_of(key)) == (job, env)


def test_the_keys_of_a_private_session_are_plain() -> None:
    assert key_of(PRIVATE, "e") == "e" and key_of(PRIVATE, "") == ""


def test_what_a_worker_submits_belongs_to_the_job_it_works_for() -> None:
    jobs = JobTable()
    jobs.begin("a", 1, SPEC, 0.0)
    jobs.works_for(2, "a")
    assert jobs.of(1) == jobs.of(2) == "a"
    jobs.client_gone(2)
    assert jobs.of(2) == PRIVATE


def test_a_job_is_over_when_its_driver_is_gone() -> None:
    jobs = JobTable()
    jobs.begin("a", 1, SPEC, 1.0)
    jobs.begin("b", 2, SPEC, 2.0)
    jobs.works_for(3, "a")
    over = jobs.driver_gone(1, 5.0)
    assert over is not None and (over.job, over.running, over.ended_s) == ("a", False, 5.0)
    assert jobs.driver_of("a") == 0 and jobs.driver_of("b") == 2
    assert jobs.of(3) == "a", "a detached actor works on for it"
    assert [job["job"] for job in jobs.listing()] == ["b", "a"]
    assert jobs.driver_gone(1, 6.0) is None and jobs.driver_gone(3, 6.0) is None
    jobs.validate()


def test_only_who_wants_to_reads_what_workers_print() -> None:
    jobs = JobTable()
    jobs.begin("a", 1, SPEC, 0.0)
    jobs.begin("b", 2, SPEC._replace(shows_lines=False), 0.0)
    assert jobs.readers() == [("a", 1)]
    assert (jobs.reader_of("a"), jobs.reader_of("b"), jobs.reader_of("c")) == (1, 0, 0)


def test_a_tool_is_no_job_that_is_listed() -> None:
    jobs = JobTable()
    jobs.begin("t", 1, SPEC._replace(observes=True), 0.0)
    assert jobs.listing() == []
    jobs.driver_gone(1, 1.0)
    assert jobs.get("t") is None
    jobs.validate()


def test_nobody_begins_twice() -> None:
    jobs = JobTable()
    jobs.begin("a", 1, SPEC, 0.0)
    for job, driver in (("a", 2), ("b", 1)):
        with pytest.raises(ValueError, match="before"):
            jobs.begin(job, driver, SPEC, 0.0)


def test_those_that_are_over_are_forgotten_in_turn() -> None:
    jobs = JobTable()
    for i in range(1, OVER_MAX + 3):
        jobs.begin(f"j{i}", i, SPEC, 0.0)
        jobs.driver_gone(i, 1.0)
    assert len(jobs.listing()) == OVER_MAX and jobs.get("j1") is None
    jobs.validate()


@given(st.lists(st.tuples(st.sampled_from(["begin", "gone", "works", "left"]), st.integers(1, 6))))
def test_whatever_happens_the_table_is_sound(story: list[tuple[str, int]]) -> None:
    jobs = JobTable()
    for number, (what, client) in enumerate(story):
        if what == "begin":
            try:
                jobs.begin(f"j{number}", client, SPEC, float(number))
            except ValueError:
                assert jobs.of(client) != PRIVATE or any(job.driver == client for job in jobs.running())
        elif what == "gone":
            jobs.driver_gone(client, float(number))
        elif not any(job.driver == client for job in jobs.running()):
            if what == "works":
                jobs.works_for(client, "elsewhere")
            else:
                jobs.client_gone(client)
        jobs.validate()
