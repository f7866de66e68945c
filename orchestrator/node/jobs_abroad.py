"""Jobs whose driver is on another node: made known here, so that workers can be made for them.

A node tells the others of each job that begins on it, before it asks them for workers. Here the job's driver
is its stand-in: what workers print for the job goes there, like everything else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import Process
from orchestrator.gcs.requests import Answer
from orchestrator.node.session_dir import JOBS
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import JobSpec

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
        #: Jobs of this node that the head may not know yet, with what is to be done when it does.
        self._starting: dict[str, list[Callable[[], None]]] = {}

    # ------------------------------------------------------------ ours

    def began(self, job: str, driver: int, facts: dict[str, Any], spec: dict[str, Any]) -> None:
        """A driver of this node has begun a job."""
        message = {"op": "job", "job": job, "driver": driver, "facts": facts, "spec": spec}
        self._ours[job] = message
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

    def node_joined(self, index: int) -> None:
        """Another node is there."""
        for message in self._ours.values():
            self._member.tell(index, message)

    # ------------------------------------------------------------ theirs

    def on_job(self, node: int, message: dict[str, Any]) -> None:
        """A job has begun on another node."""
        job: str = message["job"]
        if not job.isalnum() or self._node.jobs.get(job) is not None:
            return
        driver = self._member.stand_ins.of(Process(node, message["driver"])).address
        facts = {**message["facts"], "driver_address": driver}
        facts |= {"node_index": self._member.here, "node_id": self._node.node_id}
        spec = message["spec"]
        with open(os.path.join(self._node.session_dir, JOBS, job), "w", encoding="utf-8") as file:
            json.dump(facts, file)  # where the zygote finds it
        spec = JobSpec(**{**spec, "argv": tuple(spec.get("argv", ()))})
        self._node.jobs.begin(job, driver, spec, time.time())
        self._node.tell_scheduler(events.JobBegan(job))

    def on_job_over(self, job: str) -> None:
        """A job of another node is over."""
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
