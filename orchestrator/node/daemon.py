"""The node process: one thread, one loop. It hears, asks the state machines, and does what they say.

======================== ===========================================================================
what it hears            from where
======================== ===========================================================================
control messages         its endpoint in the store (`control` decodes, `control_handlers` acts)
forks and exits          the zygote's socket; of orphans, SIGCHLD
lines that workers print two pipes per worker
its parent's end         its pidfd, and the end of the control socket that `launch` holds
drivers that come and go a socket in the session's directory (`drivers`), if the session stands
======================== ===========================================================================

What it asks: `scheduling.LocalScheduler` (who gets a worker), `scheduling.ActorTable` (who is where), and
`scheduling.JobTable` (who works for whom).

A session is private, or it stands. The node of a private one is a child of its only driver, and ends with it.
That of a standing one is a child of a supervisor, and drivers attach to it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.common.resources import ResourceSet
from orchestrator.node import system
from orchestrator.node.control_handlers import ControlHandlers
from orchestrator.node.departures import Departures
from orchestrator.node.environment_desk import EnvironmentDesk
from orchestrator.node.held_actors import HeldActors
from orchestrator.node.line_forwarder import LineForwarder
from orchestrator.node.logs import LogKeeper, note
from orchestrator.node.machine import describe_machine
from orchestrator.node.memory_guard import MemoryGuard
from orchestrator.node.outbox import Outbox
from orchestrator.node.reactor import Reactor
from orchestrator.node.restart_pauses import RestartPauses
from orchestrator.node.session_dir import LOGS
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess
from orchestrator.node.zygote_link import Exited, Forked, NotForked, ZygoteGone, ZygoteLink
from orchestrator.objects.named_objects import NamedObjects
from orchestrator.scheduling import actor_table, events, placement_groups
from orchestrator.scheduling.actor_table import ActorTable
from orchestrator.scheduling.jobs import PRIVATE, JobSpec, JobTable, job_of
from orchestrator.scheduling.local_scheduler import LocalScheduler
from orchestrator.scheduling.placement_groups import GroupTable
from orchestrator.scheduling.wait_graph import WaitGraph

Instruction = events.Instruction | actor_table.Instruction | placement_groups.Instruction

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.drivers import Drivers

#: The longest time without a look at timers, and at the driver where the kernel has no pidfd; and the pause
#: before a full ring is tried again.
TICK_S, RETRY_S = 1.0, 0.002
#: Control messages handled before the other descriptors have their turn.
MESSAGES_PER_ROUND = 256
#: Zygotes that may die within so many seconds: one is an accident, many are a broken installation.
ZYGOTE_DEATHS_MAX, ZYGOTE_WINDOW_S = 5, 30.0
#: Complaints that are written down in full; later ones are only counted.
COMPLAINTS_WRITTEN_MAX = 1000
#: What actors' hooks get when they have to end. Whoever ends them waits no longer than that.
HOOK_GRACE_S = 5.0
#: Prestarted workers, however many CPUs the machine has: memory is spent when there is work for it.
POOL_MAX = 64


class Daemon:
    """The node of one session. `run` returns when the session is over."""

    def __init__(self, config: dict[str, Any], launcher: socket.socket, zygote: ZygoteLink) -> None:
        import plasma

        self.session_dir: str = config["session_dir"]
        self._parent_pid: int = config["parent_pid"]
        #: Whose end is the session's, in words.
        self._parent = "the supervisor"
        self.jobs = JobTable()
        self._launcher = launcher
        self._stop_reason: str | None = None
        self._complaints_count = 0
        self._zygote_deaths_s: list[float] = []
        self._member_due_s = 0.0

        self.store = plasma.Store.attach(config["store_fd"], name="node", agent=True)
        self.endpoint = self.store.endpoint
        self.address: int = self.store.address
        cluster = config.get("cluster")
        self.node_id: str = cluster["node_id"] if cluster else f"{self.address:016x}"
        #: What a channel raises that will never take a message.
        self.hopeless = (plasma.PeerDiedError, plasma.MessageTooLargeError)
        self.outbox = Outbox(
            lambda address: self.endpoint.sender(address, 0),
            self.hopeless,
        )
        self.reactor = Reactor()
        self._zygote = zygote
        self.lines = LineForwarder(self.outbox, self.jobs)
        self.pool = WorkerPool(
            zygote, self.reactor, LogKeeper(os.path.join(self.session_dir, LOGS)), self.lines.forward
        )
        machine = describe_machine(config, self.node_id, self.store.size_bytes)
        #: What was declared, and what the node knows of itself.
        self.labels = machine.labels
        self.scheduler = LocalScheduler(
            ResourceSet.from_floats(machine.resources),
            pool_size=min(math.ceil(config["resources"].get("CPU", 0)), POOL_MAX),
            devices=machine.devices,
            node_id=self.node_id,
            labels=machine.labels,
        )
        self.actors = ActorTable()
        self.named_objects = NamedObjects(self.store)
        self.wait_graph = WaitGraph()
        self._pauses = RestartPauses()
        self.groups = GroupTable()
        self.handlers = ControlHandlers(self)
        self.departures = Departures(self)
        self.memory = MemoryGuard(self.store, self.pool, self.scheduler.slots, self.kill, self.complain)
        self.environments = EnvironmentDesk(
            self.session_dir,
            self.tell_scheduler,
            lambda jobs, text: self.lines.say(map(self.jobs.driver_of, jobs), "runtime environment", text),
        )
        #: Everybody who hears of deaths: drivers, and workers that are ready.
        self.clients: dict[int, None] = {}
        self.drivers: Drivers | None = None
        #: The name that its processes share, in a cluster with those of other nodes; and which node this is.
        self.session: str = config["info"]["session"]
        self.index = 0
        #: This node as one of several; None where there are no others.
        self.member: ClusterMember | None = None
        if cluster:
            sys.path += [entry for entry in cluster["import_path"] if entry not in sys.path]
            from orchestrator.node.cluster_member import ClusterMember

            self.member = ClusterMember(self, cluster, config["store_fd"])
            self.outbox.abroad = self.member.abroad
            self.session, self.index = self.member.session, self.member.here
        keeper = self.store if self.member is None else self.member.keepsakes
        self._held_actors = HeldActors(keeper, self.complain)
        self._begin(config["info"], config["store_fd"])

    def _begin(self, info: dict[str, Any], segment_fd: int) -> None:
        """Have the one driver of a private session, or a door for those to come."""
        driver = info.get("driver_address")
        if driver:
            self._parent = "the driver"
            self.jobs.begin(
                PRIVATE, driver, JobSpec(info.get("namespace", ""), self._parent_pid), time.time()
            )
            self.clients[driver] = None
            return
        from orchestrator.node.drivers import Drivers

        self.tell_scheduler(events.PoolWanted(None))
        self.drivers = Drivers(self, self.session_dir, info, segment_fd)

    # ------------------------------------------------------------ the loop

    def run(self) -> str:
        """Serve until the session is over; return why."""
        self._watch_everything()
        self.tell_scheduler(events.Tick())
        hello = {
            "op": "hello",
            "pid": os.getpid(),
            "address": self.address,
            "resources": self.scheduler.total.to_floats(),
        }
        self.outbox.broadcast(self.clients, hello)
        self._launcher.sendall(json.dumps(hello).encode() + b"\n")
        ticked_at_s = time.monotonic()
        while self._stop_reason is None:
            asleep = self.endpoint.arm()
            self.reactor.run(self._timeout_s() if asleep else 0)
            if not asleep:
                self.read_messages()
            if self.member is not None:
                self.member.objects.look()
            self.outbox.flush()
            self._zygote.flush()
            self.lines.watch_backlog(self.pool)
            now_s = time.monotonic()
            self.perform_all(self._pauses.take(now_s, self.actors.wants_process))
            deadline_s = self.scheduler.deadline_s()
            if now_s - ticked_at_s >= TICK_S or (deadline_s is not None and deadline_s <= now_s):
                ticked_at_s = now_s
                self._tick(now_s)
            self.memory.look(now_s)
            if self.drivers is not None:
                self.drivers.tick(now_s)
            if self.member is not None:
                self._member_due_s = now_s + self.member.tick()
        return self._stop_reason

    def _watch_everything(self) -> None:
        reactor = self.reactor
        reactor.watch(self.endpoint.fileno(), self._on_doorbell)
        reactor.watch(self._zygote.fileno(), self._on_zygote)
        reactor.watch(self._launcher.fileno(), self._on_launcher)
        parent_fd = system.open_pidfd(self._parent_pid)
        if parent_fd >= 0:
            reactor.watch(parent_fd, lambda: self.stop(f"{self._parent} is gone"))
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        reactor.watch(wake_r, lambda: self._on_signal(wake_r))
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._check_parent()  # it may have died before its pidfd was opened

    def _timeout_s(self) -> float:
        if self.outbox.flush() or self._zygote.flush():
            return RETRY_S
        if self.member is not None and self.member.go_on():
            return RETRY_S
        deadline_s = min(self.memory.due_s(), self._pauses.due_s())
        scheduled_s = self.scheduler.deadline_s()
        if scheduled_s is not None:
            deadline_s = min(deadline_s, scheduled_s)
        if self.drivers is not None:
            deadline_s = min(deadline_s, self.drivers.due_s(time.monotonic()))
        if self.member is not None:
            deadline_s = min(deadline_s, self._member_due_s)
        return min(max(deadline_s - time.monotonic(), 0.0), TICK_S)

    def _tick(self, now_s: float) -> None:
        self._check_parent()
        self.pool.kill_overdue(now_s)
        self.memory.relieve(now_s)
        self.environments.tick(now_s)
        self.tell_scheduler(events.Tick())

    def _check_parent(self) -> None:
        if os.getppid() != self._parent_pid:
            self.stop(f"{self._parent} is gone")

    def _on_launcher(self) -> None:
        said = self._launcher.recv(4096)
        if said and self.drivers is not None:
            self.drivers.on_supervisor(json.loads(said))
        elif not said:
            self.stop(f"{self._parent} has ended the session")

    def _on_signal(self, fd: int) -> None:
        numbers = os.read(fd, 4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.stop("the node was told to end by a signal")
        if signal.SIGCHLD in numbers:
            # First what the zygote said before it died: it names the orphans.
            self._on_zygote()
            self._reap_orphans()

    def stop(self, reason: str) -> None:
        """End the session after this round; the first reason counts."""
        self._stop_reason = self._stop_reason or reason

    def complain(self, text: str) -> None:
        """Write down what made no sense. Bounded: a client that sends garbage must not fill a disk."""
        self._complaints_count += 1
        if self._complaints_count <= COMPLAINTS_WRITTEN_MAX:
            note(text[:1000])

    # ------------------------------------------------------------ control messages

    def _on_doorbell(self) -> None:
        self.endpoint.drain()
        self.read_messages()

    def read_messages(self) -> bool:
        """Handle what has arrived; False if something may be left."""
        for _ in range(MESSAGES_PER_ROUND):
            message = self.endpoint.receive(0)
            if message is None:
                self.handlers.answer_postponed()
                break
            self.handlers.handle(*message)
        else:
            return False
        while self.endpoint.receive(1) is not None:
            self.complain("a task was sent to the node")
        return True

    # ------------------------------------------------------------ instructions

    def tell_scheduler(self, event: events.Event) -> None:
        """Hand an event to the scheduler, and do what it says."""
        self.perform_all(self.scheduler.handle(event, time.monotonic()))
        if self.member is not None:
            self.member.leases.scheduler_changed()

    def perform_all(self, instructions: Sequence[Instruction]) -> None:
        """Do what a state machine says."""
        for instruction in instructions:
            self._perform(instruction)

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case events.Grant(client, class_key, token):
                process = self.pool.get(token)
                assert process is not None
                grant = {"op": "granted", "class": class_key, "worker": process.address, "pid": process.pid}
                if self.member is not None:
                    self.member.leases.local_grant(client, class_key)
                self.outbox.send(client, grant)
            case events.Reclaim(client, class_key, token):
                process = self.pool.get(token) if token is not None else None
                worker = process.address if process is not None else None
                self.outbox.send(client, {"op": "reclaim", "class": class_key, "worker": worker})
            case events.PrepareEnvironment(key):
                self.environments.prepare(key)
            case events.StartWorker(token, env):
                self._start_worker(token, env)
            case events.EndWorker(token, reason, gently, verdict):
                process = self.pool.get(token)
                if process is not None:
                    process.verdict = verdict
                if process is not None and gently:
                    self.pool.end_gently(process, reason, time.monotonic())
                elif process is not None:
                    self.pool.kill(process, reason)
            case events.PlaceActor(actor, token):
                process = self.pool.get(token)
                assert process is not None
                self.pool.relabel(process, self.actors.class_name(actor))
                if self.member is None or not self.member.placed_here(actor, process.address):
                    self.perform_all(self.actors.placed(actor, process.address))
            case events.Infeasible(client, class_key, actor, verdict, cause):
                if self.member is not None and self.member.leases.local_refusal(
                    client, class_key, actor, verdict, cause
                ):
                    return
                if actor is not None:
                    self.perform_all(self.actors.infeasible(actor, verdict, cause))
                    return
                news = {"op": "infeasible", "class": class_key, "verdict": verdict, "cause": cause}
                self.outbox.send(client, news)
            case events.Explain(client, actor, text, group):
                self._explain(client, actor, text, group)
            case events.BundlesReserved(group):
                self.perform_all(self.groups.reserved(group))
            case events.BundlesInfeasible(group, cause):
                self.perform_all(self.groups.infeasible(group, cause))
            case events.PartReserved() if self.member is not None:
                self.member.groups.part_reserved(instruction)
            case placement_groups.RequestBundles(_, spec):
                self.tell_scheduler(events.BundlesWanted(spec.group, spec.bundles))
            case placement_groups.ReleaseBundles(group):
                self.tell_scheduler(events.BundlesReleased(group))
            case events.Complain(text):
                self.complain(text)
            case actor_table.Tell(client, message):
                self.outbox.send(client, message)
            case actor_table.RequestPlacement(client, spec, pause_s):
                if pause_s:
                    self._pauses.add(instruction)
                elif self.member is not None:
                    self.member.leases.actor_wanted(client, spec)
                else:
                    job = job_of(spec.scheduling.env)
                    wanted = events.ActorWanted(client, spec.actor, spec.scheduling, spec.hold, job)
                    self.tell_scheduler(wanted)
            case actor_table.WithdrawPlacement(actor):
                if self.member is not None:
                    self.member.leases.actor_withdrawn(actor)
                else:
                    self.tell_scheduler(events.ActorWithdrawn(actor))
            case actor_table.KillActorWorker(worker, reason):
                process = self.pool.at(worker)
                if process is not None:
                    self.kill(process, reason)
                elif self.member is not None:
                    self.member.kill_abroad(worker, reason)
            case actor_table.Buried(actor):
                if self.member is not None:
                    self.member.actor_gone(actor)
            case actor_table.MoveActorWorker() if self.member is not None:
                self.member.leaving.move_actor(instruction)
            case actor_table.HoldActor(actor):
                self._held_actors.hold(actor)
            case actor_table.DropActor(actor):
                self._held_actors.drop(actor)

    def _explain(self, client: int, actor: str | None, text: str, group: str | None) -> None:
        """Say why an actor or a group waits: to its creator, to its job's driver, or to the log."""
        who = "a placement group" if actor is None else f"actor {self.actors.class_name(actor)}"
        job = self.groups.job_of(group or "") if actor is None else self.actors.job_of(actor)
        reader = client or self.jobs.driver_of(job)
        if reader:
            self.outbox.send(reader, {"op": "explain", "text": f"{who} {text}"})
        else:
            self.complain(f"{who} {text}")

    def _start_worker(self, token: int, env: str) -> None:
        if self.member is not None:
            self.member.jobs.used(env)
        try:
            self.pool.start(token, self.address, env)
        except OSError as exc:
            self.complain(f"no pipes for a worker: {exc}")
            self.tell_scheduler(events.WorkerDied(token))

    def end_actors(self, workers: Sequence[int]) -> int:
        """Have actors end in good order; return how many still live."""
        processes = [process for worker in workers if (process := self.pool.at(worker)) is not None]
        for process in processes:
            if process.decision is None:
                self.pool.end_gently(process, "the session ends", time.monotonic(), HOOK_GRACE_S)
        return len(processes)

    def has_left(self, address: int) -> bool:
        """Tell whether a client's slot in the store is free, after reaping it if it is dead."""
        if self.store.reap_client(address):
            self.endpoint.close_sender(address)
            return True
        return all(client["address"] != address for client in self.store.clients())

    def reap_store(self) -> None:
        """Reap whoever has died without being known here."""
        self.store.reap()

    def kill(self, process: WorkerProcess, reason: str) -> None:
        """End a worker at once; its death will be reported."""
        already = process.decision is not None
        self.pool.kill(process, reason)
        if not already:
            self.tell_scheduler(events.WorkerDoomed(process.token))

    # ------------------------------------------------------------ processes that come and go

    def _on_zygote(self) -> None:
        for report in self._zygote.read():
            match report:
                case Forked(token, pid, pidfd):
                    self.pool.forked(token, pid, pidfd)
                case NotForked(token, error):
                    self.complain(f"a worker could not be forked: {error}")
                    self.departures.worker_gone(self.pool.get(token), None, 0)
                case Exited(pid, status, rss_max_bytes):
                    self.departures.worker_gone(self.pool.with_pid(pid), status, rss_max_bytes)
                case ZygoteGone():
                    self._zygote_gone()

    def _zygote_gone(self) -> None:
        self.complain("the zygote has died")
        self.reactor.forget(self._zygote.fileno())
        self._zygote.discard()
        now_s = time.monotonic()
        self._zygote_deaths_s = [t for t in self._zygote_deaths_s if now_s - t < ZYGOTE_WINDOW_S] + [now_s]
        if len(self._zygote_deaths_s) > ZYGOTE_DEATHS_MAX:
            self.stop(f"the zygote died {len(self._zygote_deaths_s)} times within {ZYGOTE_WINDOW_S:.0f} s")
            return
        unborn = [process for process in self.pool if not process.pid]
        for process in self.pool:
            # The kernel kills them; they are orphans, and this process will reap them.
            process.decision = process.decision or "the process that had forked it (the zygote) died"
        self._zygote.start_by_exec()
        self.reactor.watch(self._zygote.fileno(), self._on_zygote)
        for process in unborn:
            self.departures.worker_gone(process, None, 0)

    def _reap_orphans(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self.pool.with_pid(pid)
            if process is not None:
                self.departures.worker_gone(process, status, 0)
            elif not self.environments.exited(pid, status) and pid != self._zygote.pid:
                self.store.reap()  # perhaps a worker whose birth the zygote did not live to report

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End every process below this one, and leave the store."""
        if self.drivers is not None:
            self.drivers.close()
        if self.member is not None:
            self.member.close()
        self._zygote.kill()
        self.pool.kill_all()
        if not system.kill_children_until_none(timeout_s=1.5):
            self.complain("some processes did not end")
        if os.getppid() == self._parent_pid:
            self.store.reap()
        self.store.close()
