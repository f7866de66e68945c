"""Names, jobs and answers: one table at a time."""

from __future__ import annotations

import pytest

from orchestrator.gcs import answered as answered_module
from orchestrator.gcs import jobs as jobs_module
from orchestrator.gcs.answered import AnsweredTable
from orchestrator.gcs.call_book import CallBook
from orchestrator.gcs.effects import Tell, Write
from orchestrator.gcs.jobs import JobTable
from orchestrator.gcs.messages import EndJob
from orchestrator.gcs.names import NameTable
from orchestrator.gcs.requests import (
    Call,
    ClaimName,
    ClusterInfo,
    Done,
    FindName,
    FreeName,
    Jobs,
    ListNames,
    Name,
    Names,
    Refused,
    StartJob,
)

ME = Name("actor", "ns", "boss", "id-1", 2, b"handle", "job-1")


def tells(effects: object) -> list[Tell]:
    assert isinstance(effects, list)
    return [effect for effect in effects if isinstance(effect, Tell)]


# ---------------------------------------------------------------- names


@pytest.fixture
def names() -> NameTable:
    table = NameTable()
    assert table.claim(ClaimName(ME))[0] == Done()
    return table


def test_a_name_has_one_holder(names: NameTable) -> None:
    answer, writes = names.claim(ClaimName(ME._replace(id="id-2")))
    assert isinstance(answer, Refused) and answer.code == "taken" and "id-1" in answer.text and not writes
    assert names.find(FindName("actor", "ns", "boss")) == ME
    # Another namespace, another kind: another name.
    assert names.claim(ClaimName(ME._replace(namespace="other")))[0] == Done()
    assert names.claim(ClaimName(ME._replace(kind="object")))[0] == Done()
    names.validate()


def test_a_name_is_given_back_by_name_by_id_or_by_both(names: NameTable) -> None:
    names.claim(ClaimName(ME._replace(name="second")))
    assert names.free(FreeName("actor", "ns", "boss", "id-9"))[0] == Done(0)
    assert names.free(FreeName("actor", "ns", "boss", "id-1"))[0] == Done(1)
    assert names.free(FreeName("actor", id="id-1"))[0] == Done(1)
    names.claim(ClaimName(ME))
    assert names.free(FreeName("actor", "ns", "boss"))[0] == Done(1)
    assert names.free(FreeName("actor", "ns", "boss"))[0] == Done(0)
    names.validate()


def test_a_name_ends_with_its_home_and_its_job_unless_it_is_detached(names: NameTable) -> None:
    names.claim(ClaimName(ME._replace(name="stays", detached=True)))
    assert len(names.home_died(2)) == 1
    names.claim(ClaimName(ME))
    assert len(names.job_ended("job-1")) == 1
    assert names.names(ListNames("actor", None)) == Names(
        (ME._replace(name="stays", detached=True, blob=b""),)
    )
    names.validate()


def test_names_survive_with_whatever_is_in_them() -> None:
    table = NameTable()
    odd = [
        Name("object", space, name, "i", 1) for space in ("", "a/b", "1/") for name in ("x", "a/b", "/", "é")
    ]
    rows: dict[str, bytes] = {}
    for name in odd:
        _, writes = table.claim(ClaimName(name))
        rows |= {write.key: write.value for write in writes if write.value is not None}
    assert len(rows) == len(odd)
    after = NameTable()
    after.restore(rows.values())
    after.validate()
    assert all(after.find(FindName("object", name.namespace, name.name)) == name for name in odd)


@pytest.mark.parametrize(
    "name, code",
    [
        (ME._replace(kind="thing"), "invalid"),
        (ME._replace(name=""), "invalid"),
        (ME._replace(id=""), "invalid"),
        (ME._replace(name="x" * 2000), "too_large"),
        (ME._replace(blob=bytes(2 << 20)), "too_large"),
    ],
)
def test_what_is_no_name(name: Name, code: str) -> None:
    answer, writes = NameTable().claim(ClaimName(name))
    assert isinstance(answer, Refused) and answer.code == code and not writes


# ---------------------------------------------------------------- jobs


def test_a_job_ends_when_every_node_has_said_so() -> None:
    table = JobTable()
    assert table.start(1, StartJob("j", "ns"), 10.0)[0] == Done()
    assert isinstance(table.start(1, StartJob("j", "ns"), 10.0)[0], Refused)
    told = tells(table.finish("j", "the driver ended", [1, 2, 3], 20.0))
    assert told == [Tell(node, EndJob("j", "the driver ended")) for node in (1, 2, 3)]
    assert table.finish("j", "again", [1], 20.0) == []
    assert table.confirmed(1, "j", 21.0)[0] == Done(1)
    assert table.confirmed(1, "j", 21.0)[0] == Done(0)
    # One that was away is told again; one that died need not confirm.
    assert tells(table.resume(2)) == [Tell(2, EndJob("j", "the driver ended"))] and table.resume(1) == []
    table.confirmed(2, "j", 22.0)
    table.validate()
    table.node_died(3, 23.0)
    answer = table.jobs()
    assert isinstance(answer, Jobs) and [(j.state, j.ended_at_s) for j in answer.jobs] == [("ENDED", 23.0)]
    table.validate()


def test_old_jobs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "ENDED_MAX", 2)
    table = JobTable()
    rows: dict[str, bytes | None] = {}
    for number in range(5):
        effects = [
            *table.start(1, StartJob(f"j{number}", ""), number)[1],
            *table.finish(f"j{number}", "", [], number),
        ]
        rows |= {effect.key: effect.value for effect in effects if isinstance(effect, Write)}
        table.validate()
    kept = {key: value for key, value in rows.items() if value is not None}
    assert sorted(kept) == ["j3", "j4"]
    after = JobTable()
    after.restore(kept.values())
    after.validate()


# ---------------------------------------------------------------- answers


def call(number: int, below: int = 1) -> Call:
    return Call(7, number, below, FreeName("actor", id="x"))


def test_an_answer_is_kept_until_it_has_arrived() -> None:
    table = AnsweredTable()
    for number in (1, 2, 3):
        assert table.find(call(number)) is None
        table.keep(call(number), Done(number))
    assert table.find(call(2)) == Done(2)
    *gone, below = table.confirm(call(4, below=3))
    assert [write.key for write in gone] == ["7/1", "7/2"] and all(write.value is None for write in gone)
    assert table.is_stale(call(2)) and not table.is_stale(call(3)) and table.find(call(3)) == Done(3)
    assert table.confirm(call(5, below=3)) == []
    after = AnsweredTable()
    assert below.value is not None
    after.restore([below.value])
    assert after.is_stale(call(2)) and not after.is_stale(call(3)) and after.find(call(2)) is None
    assert [write.key for write in table.node_died(7)] == ["7/below", "7/3"]
    assert [write.key for write in after.node_died(7)] == ["7/below"] and not after.is_stale(call(2))
    table.validate()


def test_answers_survive_the_head() -> None:
    table, after = AnsweredTable(), AnsweredTable()
    kept = [table.keep(call(1), Done(5)), table.keep(call(2), Refused("taken", "by é"))]
    after.restore([write.value for write in kept if write.value is not None])
    assert [after.find(call(1)), after.find(call(2))] == [Done(5), Refused("taken", "by é")]


def test_unconfirmed_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered_module, "ANSWERS_PER_NODE_MAX", 2)
    table = AnsweredTable()
    table.keep(call(1), Done())
    assert not table.is_full(7)
    table.keep(call(2), Done())
    assert table.is_full(7) and not table.is_full(8)


def test_the_asker_s_half() -> None:
    book = CallBook()
    first, second = book.enter(ClusterInfo()), book.enter(ClusterInfo())
    assert book.call(7, second) == Call(7, 2, 1, ClusterInfo())
    assert book.settle(first) and not book.settle(first)
    assert book.call(7, second).answered_below == 2 and len(book) == 1
