"""The node process: one thread, one loop. It hears, asks the state machines, and does what they say.

======================== ===========================================================================
what it hears            from where
======================== ===========================================================================
control messages         its endpoint in the store (`control` decodes, `control_handlers` acts)
forks and exits          the zygote's socket; of orphans, SIGCHLD
lines that workers print two pipes per worker
the driver's end         its pidfd, and the end of the control socket that `launch` holds
======================== ===========================================================================

What it asks: `scheduling.LocalScheduler` (who gets a worker) and `scheduling.ActorTable` (who is where).
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

from orchestrator.common import environ
from orchestrator.common.resources import ResourceSet
from orchestrator.node import system
from orchestrator.node.control_handlers import ControlHandlers
from orchestrator.node.death import MemoryWitness, make_report
from orchestrator.node.line_forwarder import LineForwarder
from orchestrator.node.logs import LogKeeper
from orchestrator.node.machine import describe_machine
from orchestrator.node.memory import MemorySources
from orchestrator.node.memory_monitor import NEAR_S, THRESHOLD, MemoryMonitor
from orchestrator.node.outbox import Outbox
from orchestrator.node.pressure import PressureRelief
from orchestrator.node.reactor import Reactor
from orchestrator.node.session_dir import LOGS
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess
from orchestrator.node.zygote_link import Exited, Forked, NotForked, ZygoteGone, ZygoteLink
from orchestrator.objects.named_objects import NamedObjects
from orchestrator.scheduling import actor_table, events, placement_groups
from orchestrator.scheduling.actor_table import ActorTable
from orchestrator.scheduling.local_scheduler import LocalScheduler
from orchestrator.scheduling.placement_groups import GroupTable
from orchestrator.scheduling.wait_graph import WaitGraph

Instruction = events.Instruction | actor_table.Instruction | placement_groups.Instruction

if TYPE_CHECKING:
    from orchestrator.node.environments import Environments

#: The longest time without a look at timers, and at the driver where the kernel has no pidfd.
TICK_S = 1.0
#: Pause before a full ring is tried again.
RETRY_S = 0.002
#: Control messages handled before the other descriptors have their turn.
MESSAGES_PER_ROUND = 256
#: Zygotes that may die within `ZYGOTE_WINDOW_S`: one is an accident, many are a broken installation.
ZYGOTE_DEATHS_MAX = 5
ZYGOTE_WINDOW_S = 30.0
#: Complaints that are written down in full; later ones are only counted.
COMPLAINTS_WRITTEN_MAX = 1000
#: Prestarted workers, however many CPUs the machine has: memory is spent when there is work for it.
POOL_MAX = 64


class Daemon:
    """The node of one session. `run` returns when the session is over."""

    def __init__(self, config: dict[str, Any], launcher: socket.socket, zygote: ZygoteLink) -> None:
        import plasma

        self._session_dir: str = config["session_dir"]
        self._driver_pid: int = config["driver_pid"]
        self.driver: int = config["info"]["driver_address"]
        self._launcher = launcher
        self._stop_reason: str | None = None
        self._complaints_count = 0
        self._zygote_deaths_s: list[float] = []

        self._store = plasma.Store.attach(config["store_fd"], name="node")
        self._endpoint = self._store.endpoint
        self.address: int = self._store.address
        self.node_id = f"{self.address:016x}"
        self.outbox = Outbox(
            lambda address: self._endpoint.sender(address, 0),
            (plasma.PeerDiedError, plasma.MessageTooLargeError),
        )
        self._reactor = Reactor()
        self._zygote = zygote
        self._lines = LineForwarder(self.outbox, self.driver)
        self.pool = WorkerPool(
            zygote, self._reactor, LogKeeper(os.path.join(self._session_dir, LOGS)), self._lines.forward
        )
        machine = describe_machine(config["resources"], config["info"].get("labels") or {}, self.node_id)
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
        self.named_objects = NamedObjects(self._store)
        self.wait_graph = WaitGraph()
        #: Detached actors, whose objects this process keeps.
        self._held_actors: set[str] = set()
        self.groups = GroupTable()
        self._handlers = ControlHandlers(self)
        self._memory = MemoryWitness()
        self._monitor = MemoryMonitor(
            MemorySources(session_limit_bytes=int(environ.number("MEMORY_LIMIT_BYTES", 0))),
            threshold=environ.number("MEMORY_USAGE_THRESHOLD", THRESHOLD),
            interval_s=environ.number("MEMORY_MONITOR_REFRESH_MS", NEAR_S * 1000) / 1000,
        )
        self._pressure = PressureRelief(self._store)
        self._environments: Environments | None = None
        #: Everybody who hears of deaths: the driver, and workers that are ready.
        self.clients: dict[int, None] = {self.driver: None}

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
        self.outbox.send(self.driver, hello)
        self._launcher.sendall(json.dumps(hello).encode() + b"\n")
        ticked_at_s = time.monotonic()
        while self._stop_reason is None:
            asleep = self._endpoint.arm()
            self._reactor.run_once(self._timeout_s() if asleep else 0)
            if not asleep:
                self._read_messages()
            self.outbox.flush()
            self._zygote.flush()
            self._lines.watch_backlog(self.pool)
            now_s = time.monotonic()
            deadline_s = self.scheduler.deadline_s()
            if now_s - ticked_at_s >= TICK_S or (deadline_s is not None and deadline_s <= now_s):
                ticked_at_s = now_s
                self._tick(now_s)
            self._watch_memory(now_s)
        return self._stop_reason

    def _watch_everything(self) -> None:
        reactor = self._reactor
        reactor.watch(self._endpoint.fileno(), self._on_doorbell)
        reactor.watch(self._zygote.fileno(), self._on_zygote)
        reactor.watch(self._launcher.fileno(), self._on_launcher)
        driver_fd = system.open_pidfd(self._driver_pid)
        if driver_fd >= 0:
            reactor.watch(driver_fd, lambda: self.stop("the driver is gone"))
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        reactor.watch(wake_r, lambda: self._on_signal(wake_r))
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._check_driver()  # it may have died before its pidfd was opened

    def _timeout_s(self) -> float:
        if self.outbox.flush() or self._zygote.flush():
            return RETRY_S
        deadline_s = self._monitor.due_s()
        scheduled_s = self.scheduler.deadline_s()
        if scheduled_s is not None:
            deadline_s = min(deadline_s, scheduled_s)
        return min(max(deadline_s - time.monotonic(), 0.0), TICK_S)

    def _tick(self, now_s: float) -> None:
        self._check_driver()
        self.pool.kill_overdue(now_s)
        self._pressure.relieve(now_s)
        if self._environments is not None:
            self._environments.tick(now_s)
        self.tell_scheduler(events.Tick())

    def _watch_memory(self, now_s: float) -> None:
        """End somebody if there is too little memory left."""
        verdict = self._monitor.look(now_s, self.scheduler.slots, self._pid_of, self._evictable_bytes)
        process = self.pool.get(verdict.token) if verdict is not None else None
        if process is not None and verdict is not None:
            self.complain(f"worker {process.token} (pid {process.pid}) is ended: {verdict.reason}")
            process.verdict = events.OUT_OF_MEMORY_ALONE if verdict.alone else events.OUT_OF_MEMORY
            self.kill(process, verdict.reason)

    def _pid_of(self, token: int) -> int:
        process = self.pool.get(token)
        return process.pid if process is not None else 0

    def _evictable_bytes(self) -> int:
        """Return what free pages of the store have in memory, after giving back what can be."""
        self._store.trim()
        stats = self._store.stats()
        return max(0, stats["touched_bytes"] - stats["used_bytes"])

    def _check_driver(self) -> None:
        if os.getppid() != self._driver_pid:
            self.stop("the driver is gone")

    def _on_launcher(self) -> None:
        if not self._launcher.recv(4096):
            self.stop("the driver has ended the session")

    def _on_signal(self, fd: int) -> None:
        numbers = os.read(fd, 4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.stop("the node was told to end by a signal")
        if signal.SIGCHLD in numbers:
            # What the zygote said before it died names the processes that are orphans now.
            self._on_zygote()
            self._reap_orphans()

    def stop(self, reason: str) -> None:
        """End the session after this round; the first reason counts."""
        self._stop_reason = self._stop_reason or reason

    def complain(self, text: str) -> None:
        """Write down what made no sense. Bounded: a client that sends garbage must not fill a disk."""
        self._complaints_count += 1
        if self._complaints_count <= COMPLAINTS_WRITTEN_MAX:
            print(f"{time.strftime('%H:%M:%S')} {text[:1000]}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------ control messages

    def _on_doorbell(self) -> None:
        self._endpoint.drain()
        self._read_messages()

    def _read_messages(self) -> None:
        for _ in range(MESSAGES_PER_ROUND):
            message = self._endpoint.receive(0)
            if message is None:
                self._handlers.answer_postponed()
                break
            self._handlers.handle(*message)
        while self._endpoint.receive(1) is not None:
            self.complain("a task was sent to the node")

    # ------------------------------------------------------------ instructions

    def tell_scheduler(self, event: events.Event) -> None:
        """Hand an event to the scheduler, and do what it says."""
        self.perform_all(self.scheduler.handle(event, time.monotonic()))

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
                self.outbox.send(client, grant)
            case events.Reclaim(client, class_key, token):
                process = self.pool.get(token) if token is not None else None
                worker = process.address if process is not None else None
                self.outbox.send(client, {"op": "reclaim", "class": class_key, "worker": worker})
            case events.PrepareEnvironment(env):
                self._prepare_environment(env)
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
                process.label = self.actors.class_name(actor)
                self.perform_all(self.actors.placed(actor, process.address))
            case events.Infeasible(client, class_key, actor, verdict, cause):
                if actor is not None:
                    self.perform_all(self.actors.infeasible(actor, verdict, cause))
                    return
                news = {"op": "infeasible", "class": class_key, "verdict": verdict, "cause": cause}
                self.outbox.send(client, news)
            case events.Explain(client, actor, text):
                who = "a placement group" if actor is None else f"actor {self.actors.class_name(actor)}"
                self.outbox.send(client or self.driver, {"op": "explain", "text": f"{who} {text}"})
            case events.BundlesReserved(group):
                self.perform_all(self.groups.reserved(group))
            case events.BundlesInfeasible(group, cause):
                self.perform_all(self.groups.infeasible(group, cause))
            case placement_groups.RequestBundles(_, spec):
                self.tell_scheduler(events.BundlesWanted(spec.group, spec.bundles))
            case placement_groups.ReleaseBundles(group):
                self.tell_scheduler(events.BundlesReleased(group))
            case events.Complain(text):
                self.complain(text)
            case actor_table.Tell(client, message):
                self.outbox.send(client, message)
            case actor_table.RequestPlacement(client, spec):
                self.tell_scheduler(events.ActorWanted(client, spec.actor, spec.scheduling, spec.hold))
            case actor_table.WithdrawPlacement(actor):
                self.tell_scheduler(events.ActorWithdrawn(actor))
            case actor_table.KillActorWorker(worker, reason):
                process = self.pool.at(worker)
                if process is not None:
                    self.kill(process, reason)
            case actor_table.HoldActor(actor):
                self._hold_actor(actor)
            case actor_table.DropActor(actor):
                if actor in self._held_actors:
                    self._held_actors.remove(actor)
                    self._store.drop_ref(bytes.fromhex(actor))

    def _hold_actor(self, actor: str) -> None:
        try:
            if self._store.add_ref(bytes.fromhex(actor)):
                self._held_actors.add(actor)
        except ValueError:
            self.complain(f"{actor!r:.100} is not the id of an actor")

    def _prepare_environment(self, env: str) -> None:
        if self._environments is None:
            from orchestrator.node.environments import Environments  # not needed by most sessions

            self._environments = Environments(
                self._session_dir,
                os.path.join(self._session_dir, LOGS),
                lambda env: self.tell_scheduler(events.EnvironmentReady(env)),
                lambda env, cause: self.tell_scheduler(events.EnvironmentFailed(env, cause)),
                lambda text: self._lines.say("runtime environment", text),
            )
        self._environments.prepare(env, time.monotonic())

    def _start_worker(self, token: int, env: str) -> None:
        try:
            self.pool.start(token, self.address, env)
        except OSError as exc:
            self.complain(f"no pipes for a worker: {exc}")
            self.tell_scheduler(events.WorkerDied(token))

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
                    self._worker_gone(self.pool.get(token), None, 0)
                case Exited(pid, status, rss_max_bytes):
                    self._worker_gone(self.pool.with_pid(pid), status, rss_max_bytes)
                case ZygoteGone():
                    self._zygote_gone()

    def _zygote_gone(self) -> None:
        self.complain("the zygote has died")
        self._reactor.forget(self._zygote.fileno())
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
        self._reactor.watch(self._zygote.fileno(), self._on_zygote)
        for process in unborn:
            self._worker_gone(process, None, 0)

    def _reap_orphans(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self.pool.with_pid(pid)
            builders = self._environments
            if process is not None:
                self._worker_gone(process, status, 0)
            elif builders is not None and builders.exited(pid, status, time.monotonic()):
                pass
            elif pid != self._zygote.pid:
                self._store.reap()  # perhaps a worker whose birth the zygote did not live to report

    def _worker_gone(self, process: WorkerProcess | None, status: int | None, rss_max_bytes: int) -> None:
        """Settle everything about a worker that is dead, in the order in which others may rely on it."""
        if process is None:
            return
        address = process.address
        slot = self.scheduler.slots.get(process.token)
        actor = slot.actor if slot is not None else None
        self.pool.remove(process)  # its last lines go to the driver before the news
        self.clients.pop(address, None)
        self.outbox.forget(address)
        self._endpoint.close_sender(address)
        if not address:
            self._store.reap()
            if status:
                self.complain(
                    f"worker {process.token} (pid {process.pid}) ended before it was ready: {status}"
                )
            if process.env and status and process.decision is None:
                # It ended by itself before it took work: so would the next one.
                how = make_report(
                    pid=process.pid, node=self.node_id, status=status, decision=None, stderr_tail=[]
                )["reason"]
                said = "".join(f"\n    {line}" for line in process.stderr_tail)[-8000:]
                cause = f"it needs a runtime environment in which no worker starts: one {how}{said}"
                self.tell_scheduler(events.EnvironmentFailed(process.env, cause))
            self.tell_scheduler(events.WorkerDied(process.token))
            return
        self._store.reap_client(address)
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        report = make_report(
            pid=process.pid,
            node=self.node_id,
            status=status,
            decision=process.decision,
            verdict=process.verdict,
            stderr_tail=process.stderr_tail,
            memory=self._memory.testify() if killed else None,
            rss_max_bytes=rss_max_bytes,
        )
        instructions = self.actors.client_died(address, report)
        self.wait_graph.over(address)
        news = {"op": "died", "worker": address, "actor": actor, "report": report}
        if actor is not None:
            news |= self.actors.fate(actor)
        self.outbox.broadcast(self.clients, news)
        self.tell_scheduler(events.WorkerDied(process.token))
        self.groups.client_died(address)
        self.perform_all(instructions)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End every process below this one, and leave the store."""
        self._zygote.kill()
        self.pool.kill_all()
        if not system.kill_children_until_none(timeout_s=1.5):
            self.complain("some processes did not end")
        if os.getppid() == self._driver_pid:
            self._store.reap()
        self._store.close()
