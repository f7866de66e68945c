"""Jobs: one per driver, and everything that belongs to it ends with it.

======= ========================= ======= ================================================================
state   event                     next    what happens
======= ========================= ======= ================================================================
(none)  start                     RUNNING
RUNNING finish, its node died     ENDING  every living node is told to end what belongs to it; its names
                                          and placement groups are given up
ENDING  the last node has said    ENDED
        so, or died
======= ========================= ======= ================================================================

A node that registers while a job is ENDING and has not confirmed is told again. Nodes that come later have
nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.gcs import records
from orchestrator.gcs.effects import Effect, Tell, Write
from orchestrator.gcs.messages import EndJob
from orchestrator.gcs.requests import Answer, Done, Job, Jobs, Refused, StartJob

TABLE = "jobs"
RUNNING, ENDING, ENDED = "RUNNING", "ENDING", "ENDED"
#: Ended jobs that are still shown.
ENDED_MAX = 1000
TEXT_LENGTH_MAX = 4096


class StoredJob(NamedTuple):
    """A job, and the nodes that have yet to confirm its end."""

    job: Job
    waiting: tuple[int, ...] = ()


class JobTable:
    """Pure. Times of day are handed in."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        #: Of jobs that are ENDING: who has yet to confirm. Never empty for one that is.
        self._waiting: dict[str, dict[int, None]] = {}
        self._ended: dict[str, None] = {}

    def restore(self, rows: Iterable[bytes]) -> None:
        """Take over what a former head has stored."""
        stored = sorted((records.load(StoredJob, row) for row in rows), key=lambda one: one.job.started_at_s)
        for job, waiting in stored:
            self._jobs[job.job] = job
            if job.state == ENDING:
                self._waiting[job.job] = dict.fromkeys(waiting)
        ended = [job for job in self._jobs.values() if job.state == ENDED]
        self._ended = {job.job: None for job in sorted(ended, key=lambda job: job.ended_at_s)}

    def is_running(self, job: str) -> bool:
        """Tell whether a job may have something new."""
        return job in self._jobs and self._jobs[job].state == RUNNING

    def start(self, node: int, request: StartJob, wall_s: float) -> tuple[Answer, list[Write]]:
        """A driver begins."""
        if request.job in self._jobs:
            return Refused("taken", f"there is a job {request.job} already"), []
        if not request.job or max(map(len, request)) > TEXT_LENGTH_MAX:
            return Refused(
                "invalid", f"a job has an id, and no text of more than {TEXT_LENGTH_MAX} characters"
            ), []
        job = Job(request.job, node, request.namespace, request.entrypoint, RUNNING, "", wall_s)
        self._jobs[job.job] = job
        return Done(), [self._write(job)]

    def finish(self, name: str, reason: str, members: Iterable[int], wall_s: float) -> list[Effect]:
        """A driver is gone; nothing if it was already."""
        if not self.is_running(name):
            return []
        job = self._jobs[name] = self._jobs[name]._replace(state=ENDING, reason=reason[:TEXT_LENGTH_MAX])
        self._waiting[name] = dict.fromkeys(members)
        tells = [Tell(node, EndJob(name, job.reason)) for node in self._waiting[name]]
        return [*self._settle(name, wall_s), *tells]

    def confirmed(self, node: int, name: str, wall_s: float) -> tuple[Answer, list[Effect]]:
        """A node has nothing of a job any more."""
        waiting = self._waiting.get(name)
        if waiting is None or node not in waiting:
            return Done(0), []
        del waiting[node]
        return Done(1), self._settle(name, wall_s)

    def running_on(self, node: int) -> list[str]:
        """Return the jobs whose driver is on a node."""
        return [job.job for job in self._jobs.values() if job.node == node and job.state == RUNNING]

    def node_died(self, node: int, wall_s: float) -> list[Effect]:
        """A node is dead: it need not confirm. Its own jobs are to be finished by the caller, before this."""
        out: list[Effect] = []
        for name in [name for name, waiting in self._waiting.items() if node in waiting]:
            del self._waiting[name][node]
            out += self._settle(name, wall_s)
        return out

    def resume(self, node: int) -> list[Effect]:
        """A node registers: say again what it has not confirmed."""
        return [
            Tell(node, EndJob(name, self._jobs[name].reason))
            for name, waiting in self._waiting.items()
            if node in waiting
        ]

    def jobs(self) -> Answer:
        """Return all jobs that are known."""
        return Jobs(tuple(self._jobs.values()))

    def _settle(self, name: str, wall_s: float) -> list[Effect]:
        out: list[Effect] = []
        if not self._waiting[name]:
            del self._waiting[name]
            self._jobs[name] = self._jobs[name]._replace(state=ENDED, ended_at_s=wall_s)
            self._ended[name] = None
            if len(self._ended) > ENDED_MAX:
                oldest = next(iter(self._ended))
                del self._ended[oldest], self._jobs[oldest]
                out.append(Write(TABLE, oldest, None))
        return [*out, self._write(self._jobs[name])]

    def _write(self, job: Job) -> Write:
        return Write(TABLE, job.job, records.dump(StoredJob(job, tuple(self._waiting.get(job.job, ())))))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for name, job in self._jobs.items():
            assert job.job == name, name
            assert (job.state == ENDING) == (name in self._waiting), name
            assert (job.state == ENDED) == (name in self._ended), name
        assert all(self._waiting.values())
        assert len(self._ended) <= ENDED_MAX
