"""The node process: one thread, one loop. It hears, asks the state machines, and does what they say.

======================== ===========================================================================
what it hears            from where
======================== ===========================================================================
control messages         its endpoint in the store (`control` decodes, `Daemon._on_<op>` acts)
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
from typing import Any

from orchestrator.common.resources import ResourceSet
from orchestrator.node import control, system
from orchestrator.node.death import MemoryWitness, make_report
from orchestrator.node.logs import LogKeeper, encode_batches
from orchestrator.node.outbox import Outbox
from orchestrator.node.pressure import PressureRelief
from orchestrator.node.reactor import Reactor
from orchestrator.node.session_dir import LOGS
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess
from orchestrator.node.zygote_link import Exited, Forked, NotForked, ZygoteGone, ZygoteLink
from orchestrator.scheduling import actor_table, events
from orchestrator.scheduling.actor_table import ActorSpec, ActorTable
from orchestrator.scheduling.local_scheduler import LocalScheduler

#: The longest time without a look at timers, and at the driver where the kernel has no pidfd.
TICK_S = 1.0
#: Pause before a full ring is tried again.
RETRY_S = 0.002
#: Control messages handled before the other descriptors have their turn.
MESSAGES_PER_ROUND = 256
#: Bytes of log lines that wait for the driver before the pipes are left alone, and how long its reading may
#: make no progress before lines are dropped: a driver that computes for long without releasing the
#: interpreter must not stop the workers.
LOG_BACKLOG_BYTES_MAX = 1024 * 1024
LOG_STALL_S = 2.0
#: Zygotes that may die within `ZYGOTE_WINDOW_S`: one is an accident, many are a broken installation.
ZYGOTE_DEATHS_MAX = 5
ZYGOTE_WINDOW_S = 30.0
#: Complaints that are written down in full; later ones are only counted.
COMPLAINTS_WRITTEN_MAX = 1000
#: Entries in an answer that lists things: it has to fit into a message of 128 KiB.
LISTED_MAX = 200
#: Prestarted workers, however many CPUs the machine has: memory is spent when there is work for it.
POOL_MAX = 64


class Daemon:
    """The node of one session. `run` returns when the session is over."""

    def __init__(self, config: dict[str, Any], launcher: socket.socket, zygote: ZygoteLink) -> None:
        import plasma

        self._session_dir: str = config["session_dir"]
        self._driver_pid: int = config["driver_pid"]
        self._driver: int = config["info"]["driver_address"]
        self._launcher = launcher
        self._stop_reason: str | None = None
        self._complaints_count = 0
        self._zygote_deaths_s: list[float] = []
        #: While pipes are left alone: the least that was waiting for the driver, and since when.
        self._log_stall: tuple[int, float] | None = None

        self._store = plasma.Store.attach(config["store_fd"], name="node")
        self._endpoint = self._store.endpoint
        self.address: int = self._store.address
        self._node_id = f"{self.address:08x}"
        self._outbox = Outbox(
            lambda address: self._endpoint.sender(address, 0),
            (plasma.PeerDiedError, plasma.MessageTooLargeError),
        )
        self._reactor = Reactor()
        self._zygote = zygote
        self._pool = WorkerPool(
            zygote, self._reactor, LogKeeper(os.path.join(self._session_dir, LOGS)), self._forward_lines
        )
        total = ResourceSet.from_floats(config["resources"])
        pool_size = min(math.ceil(config["resources"].get("CPU", 0)), POOL_MAX)
        self._scheduler = LocalScheduler(total, pool_size=pool_size)
        self._actors = ActorTable()
        self._memory = MemoryWitness()
        self._pressure = PressureRelief(self._store)
        #: Everybody who hears of deaths: the driver, and workers that are ready.
        self._clients: dict[int, None] = {self._driver: None}

    # ------------------------------------------------------------ the loop

    def run(self) -> str:
        """Serve until the session is over; return why."""
        self._watch_everything()
        self._tell_scheduler(events.Tick())
        hello = {
            "op": "hello",
            "pid": os.getpid(),
            "address": self.address,
            "resources": self._scheduler.total.to_floats(),
        }
        self._outbox.send(self._driver, hello)
        self._launcher.sendall(json.dumps(hello).encode() + b"\n")
        ticked_at_s = time.monotonic()
        while self._stop_reason is None:
            asleep = self._endpoint.arm()
            self._reactor.run_once(self._timeout_s() if asleep else 0)
            if not asleep:
                self._read_messages()
            self._outbox.flush()
            self._zygote.flush()
            self._watch_log_backlog()
            now_s = time.monotonic()
            deadline_s = self._scheduler.deadline_s()
            if now_s - ticked_at_s >= TICK_S or (deadline_s is not None and deadline_s <= now_s):
                ticked_at_s = now_s
                self._tick(now_s)
        return self._stop_reason

    def _watch_everything(self) -> None:
        reactor = self._reactor
        reactor.watch(self._endpoint.fileno(), self._on_doorbell)
        reactor.watch(self._zygote.fileno(), self._on_zygote)
        reactor.watch(self._launcher.fileno(), self._on_launcher)
        driver_fd = system.open_pidfd(self._driver_pid)
        if driver_fd >= 0:
            reactor.watch(driver_fd, lambda: self._stop("the driver is gone"))
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        reactor.watch(wake_r, lambda: self._on_signal(wake_r))
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._check_driver()  # it may have died before its pidfd was opened

    def _timeout_s(self) -> float:
        if self._outbox.flush() or self._zygote.flush():
            return RETRY_S
        deadline_s = self._scheduler.deadline_s()
        if deadline_s is None:
            return TICK_S
        return min(max(deadline_s - time.monotonic(), 0.0), TICK_S)

    def _tick(self, now_s: float) -> None:
        self._check_driver()
        self._pool.kill_overdue(now_s)
        self._pressure.relieve(now_s)
        self._tell_scheduler(events.Tick())

    def _check_driver(self) -> None:
        if os.getppid() != self._driver_pid:
            self._stop("the driver is gone")

    def _on_launcher(self) -> None:
        if not self._launcher.recv(4096):
            self._stop("the driver has ended the session")

    def _on_signal(self, fd: int) -> None:
        numbers = os.read(fd, 4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop("the node was told to end by a signal")
        if signal.SIGCHLD in numbers:
            # What the zygote said before it died names the processes that are orphans now.
            self._on_zygote()
            self._reap_orphans()

    def _stop(self, reason: str) -> None:
        self._stop_reason = self._stop_reason or reason

    def _complain(self, text: str) -> None:
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
                break
            self._handle(*message)
        while self._endpoint.receive(1) is not None:
            self._complain("a task was sent to the node")

    def _handle(self, sender: int, payload: bytes) -> None:
        try:
            op, fields = control.decode(payload)
        except control.BadMessage as exc:
            self._complain(f"from {sender}: {exc}")
            if exc.request is not None:
                self._outbox.send(sender, {"op": "reply", "req": exc.request, "error": f"bad message: {exc}"})
            return
        if op != "ready" and sender not in self._clients:
            self._complain(f"{op} from {sender}, which is no client")
            return
        getattr(self, f"_on_{op}")(sender, **{_PARAMETERS.get(name, name): v for name, v in fields.items()})

    def _on_ready(self, sender: int, token: int, pid: int) -> None:
        process = self._pool.get(token)
        if process is None or process.address or process.pid not in (0, pid):
            self._complain(f"ready from {sender}, pid {pid}: there is no such worker {token}")
            return
        self._pool.ready(process, sender)
        process.pid = pid
        self._clients[sender] = None
        self._tell_scheduler(events.WorkerReady(token, sender))

    def _on_lease(self, sender: int, class_key: int | str, resources: ResourceSet, want: int) -> None:
        self._tell_scheduler(events.LeaseWanted(sender, class_key, resources, want))

    def _on_return(self, sender: int, worker: int) -> None:
        process = self._pool.at(worker)
        if process is not None:  # else it has just died
            self._tell_scheduler(events.LeaseReturned(sender, process.token))

    def _on_blocked(self, sender: int) -> None:
        process = self._pool.at(sender)
        if process is not None:
            self._tell_scheduler(events.WorkerBlocked(process.token))

    def _on_unblocked(self, sender: int) -> None:
        process = self._pool.at(sender)
        if process is not None:
            self._tell_scheduler(events.WorkerUnblocked(process.token))

    def _on_create_actor(self, sender: int, **fields: Any) -> None:
        spec = ActorSpec(
            actor=fields["actor"],
            name=fields["name"],
            namespace=fields["namespace"],
            class_name=fields["class_name"],
            placement=fields["resources"],
            hold=fields["hold"],
            handle=fields["handle"],
            detached=fields["detached"],
        )
        self._perform_all(
            self._actors.create(sender, spec, fields["req"], get_if_exists=fields["get_if_exists"])
        )

    def _on_actor_state(self, sender: int, actor: str, state: str, cause: str | None) -> None:
        if state == "alive":
            self._perform_all(self._actors.alive(actor, sender))
        elif state == "dead":
            self._perform_all(self._actors.end(actor, cause or "ended"))
        else:
            self._complain(f"from {sender}: an actor can't be {state!r:.100}")

    def _on_resolve_actor(self, sender: int, actor: str) -> None:
        self._perform_all(self._actors.resolve(sender, actor))

    def _on_get_actor(self, sender: int, name: str, namespace: str, req: int) -> None:
        self._perform_all(self._actors.find(sender, name, namespace, req))

    def _on_kill_actor(self, sender: int, actor: str, no_restart: bool, reason: str) -> None:
        self._perform_all(self._actors.end(actor, reason))

    def _on_kill_worker(self, sender: int, worker: int, reason: str) -> None:
        process = self._pool.at(worker)
        if process is not None:
            self._kill(process, reason)

    def _on_list_actors(self, sender: int, req: int) -> None:
        actors = self._actors.listing()
        answer = {"op": "reply", "req": req, "actors": actors[:LISTED_MAX], "count": len(actors)}
        self._outbox.send(sender, answer)

    def _on_resources(self, sender: int, req: int) -> None:
        scheduler = self._scheduler
        waiting = [
            {"client": d.client, "resources": d.resources.to_floats(), "want": d.want, "actor": d.actor}
            for d in scheduler.waiting()[:LISTED_MAX]
        ]
        workers = [
            {
                "pid": process.pid,
                "worker": slot.address,
                "state": slot.state.value,
                "holds": slot.held.to_floats(),
            }
            for slot in list(scheduler.slots)[:LISTED_MAX]
            if (process := self._pool.get(slot.token)) is not None
        ]
        answer = {
            "op": "reply",
            "req": req,
            "total": scheduler.total.to_floats(),
            "available": scheduler.available.to_floats(),
            "waiting": waiting,
            "workers": workers,
        }
        self._outbox.send(sender, answer)

    def _on_shutdown(self, sender: int) -> None:
        if sender == self._driver:
            self._stop("the driver has ended the session")
        else:
            self._complain(f"shutdown from {sender}, which is not the driver")

    # ------------------------------------------------------------ instructions

    def _tell_scheduler(self, event: events.Event) -> None:
        for instruction in self._scheduler.handle(event, time.monotonic()):
            self._perform(instruction)

    def _perform_all(self, instructions: list[actor_table.Instruction]) -> None:
        for instruction in instructions:
            self._perform(instruction)

    def _perform(self, instruction: events.Instruction | actor_table.Instruction) -> None:
        match instruction:
            case events.Grant(client, class_key, token):
                process = self._pool.get(token)
                assert process is not None
                grant = {"op": "granted", "class": class_key, "worker": process.address, "pid": process.pid}
                self._outbox.send(client, grant)
            case events.Reclaim(client, class_key):
                self._outbox.send(client, {"op": "reclaim", "class": class_key})
            case events.StartWorker(token):
                self._start_worker(token)
            case events.EndWorker(token, reason, gently):
                process = self._pool.get(token)
                if process is not None and gently:
                    self._pool.end_gently(process, reason, time.monotonic())
                elif process is not None:
                    self._pool.kill(process, reason)
            case events.PlaceActor(actor, token):
                process = self._pool.get(token)
                assert process is not None
                process.label = self._actors.class_name(actor)
                self._perform_all(self._actors.placed(actor, process.address))
            case events.Infeasible(client, class_key, actor, resources, total):
                if actor is not None:
                    self._perform_all(self._actors.infeasible(actor, resources, total))
                    return
                why = {"resources": resources.to_floats(), "total": total.to_floats()}
                self._outbox.send(client, {"op": "infeasible", "class": class_key, **why})
            case events.Complain(text):
                self._complain(text)
            case actor_table.Tell(client, message):
                self._outbox.send(client, message)
            case actor_table.RequestPlacement(client, spec):
                self._tell_scheduler(events.ActorWanted(client, spec.actor, spec.placement, spec.hold))
            case actor_table.WithdrawPlacement(actor):
                self._tell_scheduler(events.ActorWithdrawn(actor))
            case actor_table.KillActorWorker(worker, reason):
                process = self._pool.at(worker)
                if process is not None:
                    self._kill(process, reason)

    def _start_worker(self, token: int) -> None:
        try:
            self._pool.start(token, self.address)
        except OSError as exc:
            self._complain(f"no pipes for a worker: {exc}")
            self._tell_scheduler(events.WorkerDied(token))

    def _kill(self, process: WorkerProcess, reason: str) -> None:
        already = process.decision is not None
        self._pool.kill(process, reason)
        if not already:
            self._tell_scheduler(events.WorkerDoomed(process.token))

    # ------------------------------------------------------------ processes that come and go

    def _on_zygote(self) -> None:
        for report in self._zygote.read():
            match report:
                case Forked(token, pid, pidfd):
                    self._pool.forked(token, pid, pidfd)
                case NotForked(token, error):
                    self._complain(f"a worker could not be forked: {error}")
                    self._worker_gone(self._pool.get(token), None, 0)
                case Exited(pid, status, rss_max_bytes):
                    self._worker_gone(self._pool.with_pid(pid), status, rss_max_bytes)
                case ZygoteGone():
                    self._zygote_gone()

    def _zygote_gone(self) -> None:
        self._complain("the zygote has died")
        self._reactor.forget(self._zygote.fileno())
        self._zygote.discard()
        now_s = time.monotonic()
        self._zygote_deaths_s = [t for t in self._zygote_deaths_s if now_s - t < ZYGOTE_WINDOW_S] + [now_s]
        if len(self._zygote_deaths_s) > ZYGOTE_DEATHS_MAX:
            self._stop(f"the zygote died {len(self._zygote_deaths_s)} times within {ZYGOTE_WINDOW_S:.0f} s")
            return
        unborn = [process for process in self._pool if not process.pid]
        for process in self._pool:
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
            process = self._pool.with_pid(pid)
            if process is not None:
                self._worker_gone(process, status, 0)
            elif pid != self._zygote.pid:
                self._store.reap()  # perhaps a worker whose birth the zygote did not live to report

    def _worker_gone(self, process: WorkerProcess | None, status: int | None, rss_max_bytes: int) -> None:
        """Settle everything about a worker that is dead, in the order in which others may rely on it."""
        if process is None:
            return
        address = process.address
        slot = self._scheduler.slots.get(process.token)
        actor = slot.actor if slot is not None else None
        self._pool.remove(process)  # its last lines go to the driver before the news
        self._clients.pop(address, None)
        self._outbox.forget(address)
        self._endpoint.close_sender(address)
        if not address:
            self._store.reap()
            if status:
                self._complain(
                    f"worker {process.token} (pid {process.pid}) ended before it was ready: {status}"
                )
            self._tell_scheduler(events.WorkerDied(process.token))
            return
        self._store.reap_client(address)
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        report = make_report(
            pid=process.pid,
            node=self._node_id,
            status=status,
            decision=process.decision,
            stderr_tail=process.stderr_tail,
            memory=self._memory.testify() if killed else None,
            rss_max_bytes=rss_max_bytes,
        )
        news = {"op": "died", "worker": address, "actor": actor, "report": report}
        self._outbox.broadcast(self._clients, news)
        self._tell_scheduler(events.WorkerDied(process.token))
        self._perform_all(self._actors.client_died(address, report))

    # ------------------------------------------------------------ what workers print

    def _forward_lines(self, process: WorkerProcess, stream: str, lines: list[str]) -> None:
        for batch in encode_batches(process.pid, process.label, stream, lines):
            self._outbox.send_payload(self._driver, batch)

    def _watch_log_backlog(self) -> None:
        """Let workers that print wait for a driver that does not read, for a while."""
        backlog_bytes = self._outbox.backlog_bytes(self._driver)
        if backlog_bytes < LOG_BACKLOG_BYTES_MAX // 2:
            self._pool.resume_streams()
            self._log_stall = None
            return
        if backlog_bytes <= LOG_BACKLOG_BYTES_MAX and self._log_stall is None:
            return
        self._pool.pause_streams()
        now_s = time.monotonic()
        if self._log_stall is None or backlog_bytes < self._log_stall[0]:
            self._log_stall = (backlog_bytes, now_s)
        elif now_s - self._log_stall[1] > LOG_STALL_S:
            count = self._outbox.drop_waiting(self._driver, b'{"op":"log"')
            text = f"[{count} batches of lines are left out: the driver did not read them]"
            self._outbox.send_payload(self._driver, encode_batches(os.getpid(), "node", "stderr", [text])[0])

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End every process below this one, and leave the store."""
        self._zygote.kill()
        self._pool.kill_all()
        if not system.kill_children_until_none(timeout_s=1.5):
            self._complain("some processes did not end")
        if os.getppid() == self._driver_pid:
            self._store.reap()
        self._store.close()


#: Fields whose names are Python's own.
_PARAMETERS = {"class": "class_key"}
