"""Jobs whose driver is on another node: made known here, so that workers can be made for them.

A node tells the others of each job that begins on it, before it asks them for workers. Here the job's driver
is its stand-in: what workers print for the job goes there, like everything else.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import Process
from orchestrator.environments import resolved as environments
from orchestrator.gcs.requests import Answer
from orchestrator.node.session_dir import JOBS
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import OVER_MAX, JobSpec, environment_of, job_of

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon


class JobsAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        #: What other nodes must know of the jobs of this one, by name.
        self._ours: dict[str, dict[str, Any]] = {}
        #: The same of all jobs, for those that are over and have detached actors: the head's node tells of
        #: them.
        self._all: dict[str, dict[str, Any]] = {}
        #: Jobs of this node that the head may not know yet, with what is to be done when it does.
        self._starting: dict[str, list[Callable[[], None]]] = {}
        #: Jobs of other nodes to places of their drivers that are not here; until that has been said.
        self._absent: dict[str, list[str]] = {}
        #: Jobs of which the head has said that they are over, the last of them. The news that one has begun
        #: comes another way, from its node, and may come later.
        self._over: dict[str, None] = {}

    # ------------------------------------------------------------ ours

    def began(self, job: str, driver: int, facts: dict[str, Any], spec: dict[str, Any]) -> None:
        """A driver of this node has begun a job."""
        places = _own_places([facts["driver_cwd"], *facts["driver_sys_path"]])
        message = {"op": "job", "job": job, "driver": driver, "facts": facts, "spec": spec, "places": places}
        self._ours[job] = self._all[job] = message
        for peer in self._member.peers:
            self._member.tell(peer, message)
        self._starting[job] = []

        def started(_: Answer) -> None:
            for action in self._starting.pop(job, ()):
                action()

        self._member.head.start_job(job, spec["namespace"], " ".join(spec["argv"])[:200], started)

    def when_started(self, job: str, action: Callable[[], None]) -> None:
        """Do something as soon as the head knows a job; of other nodes' jobs it has heard before us."""
        waiting = self._starting.get(job)
        if waiting is None:
            action()
        else:
            waiting.append(action)

    def over(self, job: str, reason: str) -> None:
        """A job of this node is over: the head tells all others."""
        if self._ours.pop(job, None) is not None:
            self._member.head.finish_job(job, reason)
        self._tell_late_comers(job)

    def node_joined(self, index: int) -> None:
        """Another node is there."""
        for message in self._ours.values():
            self._member.tell(index, message)
        if self._member.here == self._member.head_index:
            for message in self._over_and_wanted():
                self._member.tell(index, {**message, "over": True})

    def _tell_late_comers(self, job: str) -> None:
        """Who joined while the job's own node could not tell of it may have to make its detached actors."""
        for message in self._over_and_wanted():
            if message["job"] == job and self._member.here == self._member.head_index:
                for peer in self._member.peers:
                    self._member.tell(peer, {**message, "over": True})

    def _over_and_wanted(self) -> list[dict[str, Any]]:
        """Return what a node must know to make workers for detached actors whose drivers have ended."""
        wanted = self._node.actors.detached_jobs()
        running = {job.job for job in self._node.jobs.running()}
        self._all = {job: known for job, known in self._all.items() if job in wanted or job in running}
        return [known for job, known in self._all.items() if job not in running]

    # ------------------------------------------------------------ theirs

    def on_job(self, node: int, message: dict[str, Any]) -> None:
        """A job has begun on another node."""
        job: str = message["job"]
        if not job.isalnum() or self._node.jobs.get(job) is not None:
            return
        is_over = bool(message.get("over")) or job in self._over
        driver = 0 if is_over else self._member.stand_ins.of(Process(node, message["driver"])).address
        facts = {**message["facts"], "driver_address": driver}
        facts |= {"node_index": self._member.here, "node_id": self._node.node_id}
        spec = message["spec"]
        with open(os.path.join(self._node.session_dir, JOBS, job), "w", encoding="utf-8") as file:
            json.dump(facts, file)  # where the zygote finds it
        absent = [place for place in message["places"] if not os.path.exists(place)]
        if absent:
            self._absent[job] = absent
        if is_over:
            self._node.environments.job_known(job)
            return
        self._all[job] = message
        spec = JobSpec(**{**spec, "argv": tuple(spec.get("argv", ()))})
        self._node.jobs.begin(job, driver, spec, time.time())
        self._node.tell_scheduler(events.JobBegan(job))
        self._node.environments.job_known(job)

    def used(self, key: str) -> None:
        """A worker is made here, for a job and a runtime environment: say once what it will not find."""
        job = job_of(key)
        known = self._node.jobs.get(job)
        if job not in self._absent or known is None:
            return
        try:
            if "working_dir" in environments.load(environment_of(key), self._node.session_dir):
                return  # it stands, and imports from, there
        except (OSError, ValueError):
            return
        text = (
            f"node {self._node.node_id} ({socket.gethostname()}) does not have "
            f"{', '.join(self._absent.pop(job))}, where this program is or imports from. Tasks that run "
            "there do not find what is in it, unless it is named: "
            "init(runtime_env={'working_dir': DIRECTORY})"
        )
        self._node.outbox.send(known.driver, {"op": "explain", "text": text})

    def on_job_over(self, job: str) -> None:
        """A job of another node is over."""
        self._absent.pop(job, None)
        self._over[job] = None
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]
        known = self._node.jobs.get(job)
        if known is not None and known.driver:
            self.driver_gone(known.driver)

    def driver_gone(self, driver: int) -> None:
        """A process of another node is dead; if it was a driver, its job is over, whatever the head says."""
        job = self._node.jobs.driver_gone(driver, time.time())
        if job is not None:
            if job.spec.is_anonymous:
                self._member.names.forget_all(job.spec.namespace)
            self._node.tell_scheduler(events.JobEnded(job.job, "its driver is gone"))
            self._tell_late_comers(job.job)


def _own_places(paths: list[str]) -> list[str]:
    """Return the places of a driver that are there, and are not Python's own: each machine has those."""
    pythons = tuple(prefix + os.sep for prefix in (sys.prefix, sys.base_prefix))
    found = [path for path in dict.fromkeys(paths) if not path.startswith(pythons)]
    return [path for path in found if os.path.exists(path) and "-packages" not in path]
