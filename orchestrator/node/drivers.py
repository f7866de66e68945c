"""The drivers of a standing session: let in at the door, attached, and cleared away when they are gone.

A driver's end is noticed by the end of its connection or of its process, whichever comes first. What follows
comes in two steps, as the connection may end a moment before the kernel has released the driver's slot in the
store, or the process may have left in good order and live on:

1. at once: it is no client any more, its demands vanish, its tasks, actors and groups end
2. when its slot is free: its share of the store is reaped, and everybody hears that it is gone
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.node.door import Door
from orchestrator.node.session_dir import DOOR, JOBS
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import Job, JobSpec
from orchestrator.scheduling.worker_slots import WorkerState

if TYPE_CHECKING:
    from orchestrator.node.daemon import Daemon

#: How often it is tried again to reap what a driver has left, and whether a drain is done.
LOOK_AGAIN_S = 0.01
#: What actors' hooks get at the end of a drain, once they have been told.
HOOKS_S = 6.0
#: Why the session ends then.
DRAINED = "it was drained"


class Drain:
    """An end that has begun."""

    def __init__(self, until_s: float, is_kept: Callable[[], bool]) -> None:
        #: Until when what runs may run.
        self.until_s = until_s
        #: Whether something still does.
        self.is_kept = is_kept
        #: Until when actors' hooks may; None while tasks still do.
        self.hooks_until_s: float | None = None


class Drivers:
    """Everything about drivers that needs I/O; who works for whom is decided in `scheduling.jobs`."""

    def __init__(self, node: Daemon, session_dir: str, info: dict[str, Any], segment_fd: int) -> None:
        from orchestrator import __version__

        self._node = node
        self._session_dir = session_dir
        self._info = info
        os.mkdir(os.path.join(session_dir, JOBS), 0o700)
        #: Jobs by the ticket that their driver has shown.
        self._by_ticket: dict[str, Job] = {}
        #: Drivers that are gone, and whose slot in the store is not free yet: address → report.
        self._leaving: dict[int, dict[str, Any]] = {}
        self._drain: Drain | None = None
        self.door = Door(
            os.path.join(session_dir, DOOR),
            node.reactor,
            version=__version__,
            segment_fd=segment_fd,
            facts=self._facts,
            on_gone=self._on_gone,
            complain=node.complain,
        )

    def _facts(self) -> dict[str, Any]:
        """Return what a driver has to know before it can attach."""
        return {
            "session": self._node.session,
            "session_dir": self._session_dir,
            "node": self._node.address,
            "node_pid": os.getpid(),
            "num_cpus": self._info["num_cpus"],
            "labels": self._node.labels,
            "node_index": self._node.index,
            "head_index": self._head_index(),
            "node_id": self._node.node_id,
        }

    def _head_index(self) -> int:
        member = self._node.member
        return member.head_index if member is not None else self._node.index

    # ------------------------------------------------------------ attaching

    def attach(
        self,
        sender: int,
        req: int,
        ticket: str,
        path: list[str],
        cwd: str,
        main: str | None,
        logging: dict[str, Any],
        **spec: Any,
    ) -> None:
        """A process that came in at the door has joined the store and wants to be a driver."""
        node = self._node
        caller = self.door.caller(ticket)
        if caller is None or ticket in self._by_ticket or sender in node.clients:
            node.complain(f"attach from {sender}: it has not come in at the door")
            node.outbox.send(sender, {"op": "reply", "req": req, "error": "there is no such ticket"})
            return
        name = os.urandom(4).hex()
        facts = {
            "job": name,
            "driver_address": sender,
            "driver_sys_path": path,
            "driver_cwd": cwd,
            "main_path": main,
            "namespace": spec["namespace"],
            "logging": logging,
            "session": node.session,
            "node_index": node.index,
            "head_index": self._head_index(),
            "node_id": node.node_id,
        }
        with open(os.path.join(self._session_dir, JOBS, name), "w", encoding="utf-8") as file:
            json.dump(facts, file)
        job = node.jobs.begin(name, sender, JobSpec(**spec), time.time())
        self._by_ticket[ticket] = job
        node.clients[sender] = None
        node.tell_scheduler(events.JobBegan(name))
        if node.member is not None:
            node.member.jobs.began(name, sender, facts, spec)
        node.outbox.send(sender, {"op": "reply", "req": req, "job": name})

    # ------------------------------------------------------------ leaving

    def detach(self, sender: int, req: int) -> None:
        """A driver is about to leave: it gets what its workers have printed, and hangs up then."""
        job = self._node.jobs.of(sender)
        self._node.pool.read_now(job)
        self._node.outbox.send(sender, {"op": "reply", "req": req})

    def _on_gone(self, ticket: str) -> None:
        job = self._by_ticket.pop(ticket, None)
        if job is None:
            self._node.reap_store()  # it may have joined the store, and never attached
            return
        node, address = self._node, job.driver
        reason = f"its driver (pid {job.spec.pid}) is gone"
        if job.spec.observes:  # nobody will work for it
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._session_dir, JOBS, job.job))
        self._leaving[address] = {
            "observed": job.spec.observes,
            "pid": job.spec.pid,
            "node": node.node_id,
            "reason": f"the driver (pid {job.spec.pid}) is gone",
        }
        node.jobs.driver_gone(address, time.time())
        node.clients.pop(address, None)
        node.lines.end(job.job, node.pool)
        node.tell_scheduler(events.ClientDied(address))
        node.perform_all(node.actors.client_died(address, None))
        node.perform_all(node.groups.job_over(job.job))
        node.groups.client_died(address)
        if job.spec.is_anonymous:
            node.named_objects.forget_all(job.spec.namespace)
            if node.member is not None:
                node.member.names.forget_all(job.spec.namespace)
        node.wait_graph.over(address)
        node.tell_scheduler(events.JobEnded(job.job, reason))
        if node.member is not None:
            node.member.jobs.over(job.job, reason)
        self._settle()

    def _settle(self) -> None:
        """Reap the drivers whose slots are free now."""
        node = self._node
        for address, report in list(self._leaving.items()):
            if node.has_left(address):
                del self._leaving[address]
                node.outbox.forget(address)
                news = {"op": "died", "worker": address, "actor": None, "report": report}
                node.outbox.broadcast(node.clients, news)
                if node.member is not None:
                    node.member.deaths.process_died(address, news)

    def due_s(self, now_s: float) -> float:
        """Return when `tick` is wanted at the latest."""
        return now_s + LOOK_AGAIN_S if self._leaving or self._drain is not None else float("inf")

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        self.door.tick(now_s)
        if self._leaving:
            self._settle()
        if self._drain is not None:
            self._tick_drain(self._drain, now_s)

    # ------------------------------------------------------------ the end

    def on_supervisor(self, message: dict[str, Any]) -> None:
        """The supervisor wants something."""
        if message["op"] == "drain":
            self.drain(message["grace_s"])

    @property
    def count(self) -> int:
        """How many drivers are attached."""
        return len(self._by_ticket)

    def drain(self, grace_s: float, is_kept: Callable[[], bool] | None = None) -> None:
        """Take no more drivers; end the session when nothing runs any more, or at the end of the grace.

        Args:
            grace_s: seconds until it ends in any case.
            is_kept: tells whether something runs; by default, whether tasks do.
        """
        now_s = time.monotonic()
        self.door.closed_because = "this session is about to end"
        self._drain = Drain(now_s + grace_s, is_kept or self._has_tasks)

    def _has_tasks(self) -> bool:
        scheduler = self._node.scheduler
        return bool(scheduler.slots.count(WorkerState.LEASED, WorkerState.BLOCKED) or scheduler.waiting())

    def _tick_drain(self, drain: Drain, now_s: float) -> None:
        node = self._node
        if drain.hooks_until_s is None:
            if now_s < drain.until_s and drain.is_kept():
                return
            drain.hooks_until_s = now_s + HOOKS_S
        hooks = node.actors.with_hooks(detached=True)
        if not (hooks and node.end_actors(hooks)) or now_s >= drain.hooks_until_s:
            node.stop(DRAINED)

    def close(self) -> None:
        """Hang up on all drivers."""
        self.door.close()
