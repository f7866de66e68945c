"""The drivers of a node and their jobs: who works for whom.

A *job* is what one driver has submitted, directly or through others. It begins when the driver attaches and
ends with it, however that ends:

=========  =============  ========  ========================================================================
state      event          next      what happens
=========  =============  ========  ========================================================================
(none)     begin          RUNNING   the driver is a client; workers can be made for the job
RUNNING    driver gone    OVER      its tasks, actors, groups end. A session that is private ends with it
OVER       (nothing)                detached actors work on for it, and so does what they submit
=========  =============  ========  ========================================================================

*Who works for whom.* A worker is made for one job, and serves no other: it has the import path, the current
directory and the settings of its driver. That is the same as with runtime environments, so it is said in the
same way: the key of an environment, as the scheduler knows it, is `job/environment` (`key_of`). What a worker
submits belongs to the job that it works for.

The job of a private session has the empty name, and its keys are plain: there is nobody to tell it from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: Jobs that are over and are still listed.
OVER_MAX = 1000

#: The job of a session that one driver has for itself.
PRIVATE = ""


def key_of(job: str, env: str) -> str:
    """Return what the scheduler knows a runtime environment by, for workers of this job."""
    return f"{job}/{env}" if job else env


def job_of(key: str) -> str:
    """Return the job that a worker with this key works for."""
    return key.partition("/")[0] if "/" in key else PRIVATE


def environment_of(key: str) -> str:
    """Return the runtime environment that a worker with this key is in."""
    return key.rpartition("/")[2]


class JobSpec(NamedTuple):
    """What a driver says of itself."""

    #: Where it looks up names. Its own if nobody else was told of it.
    namespace: str
    #: Process id, for people.
    pid: int
    #: Its command line.
    argv: tuple[str, ...] = ()
    #: Whether it shows what its workers print.
    shows_lines: bool = True
    #: It looks at others and submits nothing: a tool, no job of a user's.
    observes: bool = False
    #: Whether names that it gives are out of everybody's reach once it is gone.
    is_anonymous: bool = False


class Job:
    """One driver's share of the session."""

    __slots__ = ("began_s", "driver", "ended_s", "job", "spec")

    def __init__(self, job: str, driver: int, spec: JobSpec, now_s: float) -> None:
        self.job = job
        #: The driver's address in the store; 0 once it is gone.
        self.driver = driver
        self.spec = spec
        #: On the clock that is passed in.
        self.began_s = now_s
        self.ended_s: float | None = None

    @property
    def running(self) -> bool:
        """Whether its driver is there."""
        return self.ended_s is None


class JobTable:
    """Pure: told of drivers and workers, it knows who works for whom."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        #: Those whose drivers are there.
        self._running: dict[str, Job] = {}
        #: Jobs of all clients, the workers too, by address.
        self._of_client: dict[int, str] = {}
        #: Those that are over, the first to be forgotten first.
        self._over: dict[str, None] = {}

    # ------------------------------------------------------------ beginnings and ends

    def begin(self, job: str, driver: int, spec: JobSpec, now_s: float) -> Job:
        """Enter a driver.

        Raises:
            ValueError: the job is known, or the driver has one.
        """
        if job in self._jobs or driver in self._of_client:
            raise ValueError(f"client {driver} has begun a job before")
        begun = self._jobs[job] = self._running[job] = Job(job, driver, spec, now_s)
        self._of_client[driver] = job
        return begun

    def driver_gone(self, driver: int, now_s: float) -> Job | None:
        """The driver at this address is gone: its job is over. None if it is nobody's driver."""
        job = self._jobs.get(self._of_client.get(driver, "/"))
        if job is None or job.driver != driver:
            return None
        del self._of_client[driver]
        del self._running[job.job]
        job.driver, job.ended_s = 0, now_s
        if job.spec.observes:
            del self._jobs[job.job]
            return job
        self._over[job.job] = None
        if len(self._over) > OVER_MAX:
            oldest = next(iter(self._over))
            del self._over[oldest], self._jobs[oldest]
        return job

    def works_for(self, client: int, job: str) -> None:
        """A worker is ready: from now on it is a client, and works for this job."""
        self._of_client[client] = job

    def client_gone(self, client: int) -> None:
        """A worker is gone."""
        self._of_client.pop(client, None)

    # ------------------------------------------------------------ questions

    def of(self, client: int) -> str:
        """Return the job of a client; the private one if it is not known."""
        return self._of_client.get(client, PRIVATE)

    def get(self, job: str) -> Job | None:
        """Return what is known of a job."""
        return self._jobs.get(job)

    def driver_of(self, job: str) -> int:
        """Return the address of a job's driver; 0 if it is gone."""
        found = self._jobs.get(job)
        return found.driver if found is not None else 0

    def reader_of(self, job: str) -> int:
        """Return the address of whoever shows what this job's workers print; 0 for nobody."""
        found = self._jobs.get(job)
        return found.driver if found is not None and found.spec.shows_lines else 0

    def readers(self) -> list[tuple[str, int]]:
        """Return (job, driver) of all that show what workers print."""
        return [(job.job, job.driver) for job in self._running.values() if job.spec.shows_lines]

    def running(self) -> list[Job]:
        """Return the jobs whose drivers are there."""
        return list(self._running.values())

    def listing(self) -> list[dict[str, Any]]:
        """Return a description of each job, those that run first; tools are none."""
        jobs = sorted(self._jobs.values(), key=lambda job: not job.running)
        return [
            {
                "job": job.job,
                "driver": job.driver or None,
                "pid": job.spec.pid,
                "namespace": job.spec.namespace,
                "argv": list(job.spec.argv),
                "running": job.running,
                "began_s": job.began_s,
                "ended_s": job.ended_s,
            }
            for job in jobs
            if not job.spec.observes
        ]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for name, job in self._jobs.items():
            assert job.job == name and "/" not in name, name
            assert job.running == bool(job.driver) == (name in self._running) == (name not in self._over), (
                name
            )
            assert not job.running or self._of_client[job.driver] == name, name
        assert set(self._over) <= set(self._jobs) and len(self._over) <= OVER_MAX
