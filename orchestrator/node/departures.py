"""What follows when a process is gone: a worker of this node, or a process of another one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from orchestrator.node.death import make_report
from orchestrator.scheduling import events
from orchestrator.scheduling.jobs import environment_of

if TYPE_CHECKING:
    from orchestrator.common.ids import Process
    from orchestrator.node.daemon import Daemon
    from orchestrator.node.worker_pool import WorkerProcess


class Departures:
    """Settles deaths, for one node."""

    def __init__(self, node: Daemon) -> None:
        self._node = node

    def worker_gone(self, process: WorkerProcess | None, status: int | None, rss_max_bytes: int) -> None:
        """Settle everything about a worker that is dead, in the order in which others may rely on it."""
        if process is None:
            return
        node = self._node
        address = process.address
        slot = node.scheduler.slots.get(process.token)
        actor = slot.actor if slot is not None else None
        node.pool.remove(process)  # its last lines go to the driver before the news
        node.clients.pop(address, None)
        node.jobs.client_gone(address)
        node.outbox.forget(address)
        node.endpoint.close_sender(address)
        if not address:
            node.store.reap()
            if status:
                node.complain(
                    f"worker {process.token} (pid {process.pid}) ended before it was ready: {status}"
                )
            if environment_of(process.env) and status and process.decision is None:
                # It ended by itself before it took work: so would the next one.
                how = make_report(
                    pid=process.pid, node=node.node_id, status=status, decision=None, stderr_tail=[]
                )["reason"]
                said = "".join(f"\n    {line}" for line in process.stderr_tail)[-8000:]
                cause = f"it needs a runtime environment in which no worker starts: one {how}{said}"
                node.tell_scheduler(events.EnvironmentFailed(process.env, cause))
            node.tell_scheduler(events.WorkerDied(process.token))
            return
        node.store.reap_client(address)
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        report = make_report(
            pid=process.pid,
            node=node.node_id,
            status=status,
            decision=process.decision,
            verdict=process.verdict,
            stderr_tail=process.stderr_tail,
            memory=node.memory.witness.testify() if killed else None,
            rss_max_bytes=rss_max_bytes,
        )
        # Of an actor whose home this is, its fate is told; of others whoever calls them asks the home.
        known = node.actors.of_worker(address, actor)
        instructions = node.actors.client_died(address, report)
        node.wait_graph.over(address)
        news = {"op": "died", "worker": address, "actor": known, "report": report}
        if known is not None:
            news |= node.actors.fate(known)
        node.outbox.broadcast(node.clients, news)
        node.tell_scheduler(events.WorkerDied(process.token))
        node.groups.client_died(address)
        node.perform_all(instructions)
        if node.member is not None:
            node.member.deaths.process_died(address, news | {"actor": actor})

    def process_of_other_node(self, address: int, process: Process, news: dict[str, Any]) -> None:
        """Settle everything about a process of another node that is dead; `address` was its stand-in's."""
        node = self._node
        report = news.get("report")
        actor = node.actors.of_worker(address, news.get("actor"))
        instructions = node.actors.client_died(address, report)
        told = {"op": "died", "worker": address, "process": list(process), "actor": actor, "report": report}
        if actor is not None:
            told |= node.actors.fate(actor)
        node.outbox.forget(address)
        node.endpoint.close_sender(address)
        node.outbox.broadcast(node.clients, told)
        node.tell_scheduler(events.ClientDied(address))
        node.groups.client_died(address)
        if node.member is not None:
            node.member.jobs.driver_gone(address)
        node.perform_all(instructions)
