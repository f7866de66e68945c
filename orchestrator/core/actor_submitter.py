"""Calls of actors: in order, straight into the actor's process.

For each actor this process knows there is a record (`actor_record.py` has its states). Calls are sent in the
order they were made; one whose arguments are not there yet holds up those behind it, unless the actor is one
that runs several at a time. The constructor of an actor created here is the first call of its queue.

An actor lives as long as there are handles. They are counted as references of an object in the
store, whose id is the actor's: each process that has handles has one, and so has each call that is
under way. When the last is gone, the actor's process notices, finishes what was sent, and ends.

**Restarts** are the node's affair: it starts a process and tells it where the constructor is kept
(`actor_creation.py` put it into the store). Here the calls are sorted. What the dead process had not taken
from its channel goes to the next one, as if it had been made later. Of what it had taken nobody can say
whether it ran: it is repeated if `max_task_retries` is not used up, else it fails. New calls wait for the
next process.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.core.actor_record import (
    ALIVE,
    DEAD,
    PENDING,
    RESTARTING,
    ActorHold,
    ActorRecord,
    ActorTraits,
    is_constructor,
)
from orchestrator.core.entry import ERROR, Entry
from orchestrator.core.messages import CANCEL, CHECK_HANDLES, CONSUMED, ITEM, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.reports import describe_death, refusal
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task, Template
from orchestrator.core.values import raisable
from orchestrator.objects.plasma_adapter import WORK, Hold, PeerDiedError, is_plain

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class ActorSubmitter(Part):
    """All calls of actors this process has made, until their replies."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._node = runtime.node
        self._completion = runtime.completion
        self._next_seq = runtime.next_seq
        self._pack = runtime.arguments.pack
        self.lock = threading.RLock()
        self._records: dict[bytes, ActorRecord] = {}
        #: those with a queue: the only ones `tick` has to look at
        self._queued: set[ActorRecord] = set()
        #: ids of actors of which a hold of this process has gone; a destructor can do no more than append
        self._dropped: deque[bytes] = deque()

    # -- knowing

    def hold(self, record: ActorRecord) -> ActorHold:
        """Return a hold for a reference this process has just been given."""
        with self.lock:
            record.handles += 1
        return ActorHold(self._runtime.references.link, record.actor_id, self._dropped)

    def enter(self, record: ActorRecord, constructor: Task | None) -> None:
        """Begin with an actor created here; its constructor is its first call, unless the node makes it."""
        with self.lock:
            self._records[record.actor_id] = record
            if constructor is not None:
                record.queue.append(constructor)
                self._queued.add(record)

    def forget(self, record: ActorRecord) -> None:
        """Undo `enter`."""
        with self.lock:
            self._records.pop(record.actor_id, None)
            self._queued.discard(record)

    def know(self, actor_id: bytes) -> tuple[ActorRecord, Hold] | None:
        """Take a reference to an actor created elsewhere; None when it has ended long ago."""
        if not self._runtime.references.take_ref(actor_id):
            return None
        with self.lock:
            record = self._records.get(actor_id)
            if record is None:
                record = self._records[actor_id] = ActorRecord(actor_id, ActorTraits())
                self._node.send({"op": "resolve_actor", "actor": actor_id.hex()})
            return record, self.hold(record)

    def record(self, actor_id: bytes) -> ActorRecord | None:
        """Return what is known of an actor."""
        return self._records.get(actor_id)

    # -- submitting

    def submit(
        self,
        actor_id: bytes,
        hold: Hold | None,
        template: Template,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a method: an ObjectRef, a list of them, a generator, or None, as `num_returns` says."""
        runtime = self._runtime
        record = self._records.get(actor_id) or ActorRecord.gone(actor_id)
        if 0 <= record.max_pending <= record.pending_count:
            record.check_limit()
        seq = self._next_seq()
        task = Task(seq, template, runtime.current_task)
        task.actor = record
        if template.num_returns == 1:
            entry = Entry(seq << 24, 0, None, task)
            task.returns.append(entry)
            result: Any = ObjectRef(entry, runtime)
        else:
            result = runtime.make_returns(task)
        if not kwargs and template.options is None and is_plain(args):
            task.message = runtime.dumps((seq, template.key, args), PROTOCOL)
            task.held = hold
        else:
            self._pack(task, args, kwargs, self.ready)
            task.held = (task.held, hold)
        with self.lock:
            if record.state == ALIVE and not record.queue and task.message is not None:
                if self._send(record, task):
                    return result
            if record.state == DEAD:
                task.place = DONE
            else:
                self._enqueue(record, task)
        if task.place == DONE:
            self._completion.fail(task, record.died_error())
        elif not seq & 15:
            runtime.pump.poll()
            if record.pending_count >= record.warn_at:
                self._warn_pending(record)
        return result

    def resubmit(self, task: Task, unready: list[Entry]) -> None:
        """Make a call that was answered once more, when these arguments of it are there again."""
        record: ActorRecord = task.actor  # type: ignore[assignment]
        with self.lock:
            if alive := record.state != DEAD:
                # It keeps nobody waiting: what makes its arguments may be another call of the same actor.
                record.aside[task.seq] = task
        if not alive:
            self._completion.fail(task, record.died_error())
        elif unready:
            self._runtime.arguments.wait_for(task, unready, self.ready)
        else:
            self.ready(task)

    def _warn_pending(self, record: ActorRecord) -> None:
        record.warn_at = 2 * record.pending_count
        self._runtime.warn(
            f"{record.pending_count} calls of {record.name} are pending: they are made faster than it serves "
            "them. max_pending_calls sets a limit."
        )

    def _enqueue(self, record: ActorRecord, task: Task) -> None:
        """Queue a new call, and send it if it can be. Lock held."""
        if record.out_of_order and task.place == WAITING:
            record.aside[task.seq] = task
            return
        self._queued.add(record)
        record.queue.append(task)
        if task.place == QUEUED:
            self._flush(record)

    def ready(self, task: Task) -> None:
        """The references among a call's arguments have become values, or one of them an error."""
        record: ActorRecord = task.actor  # type: ignore[assignment]
        with self.lock:
            if task.place == WAITING:
                task.place = QUEUED
            if record.aside.pop(task.seq, None) is not None:
                self._enqueue(record, task)
            elif task in record.queue:
                self._flush(record)

    def _flush(self, record: ActorRecord) -> None:
        """Send what can be sent, in order. Lock held."""
        queue = record.queue
        while queue and record.state == ALIVE:
            task = queue[0]
            if task.place in (DONE, SENT):
                # Cancelled; or sent, and an interrupt came before it was taken off the queue.
                queue.popleft()
                continue
            if task.place == WAITING:
                return
            if task.message is None:
                try:
                    error = self._runtime.arguments.resolve(task)
                except Exception as reason:
                    error = reason
                if error is not None:
                    queue.popleft()
                    self.argument_failed(record, task, error)
                    continue
            if not self._send(record, task):
                return
            if queue and queue[0] is task:
                queue.popleft()

    def argument_failed(self, record: ActorRecord, task: Task, error: Any) -> None:
        """An argument is the error of the task that should have made it; fatal for a constructor."""
        self._completion.fail(task, error)
        if is_constructor(task):
            text = f"an argument of its constructor failed: {raisable(error)}"
            record.init_failed = True
            self._node.send(
                {"op": "kill_actor", "actor": record.actor_id.hex(), "no_restart": True, "reason": text}
            )
            self.dead(record, text)

    def _send(self, record: ActorRecord, task: Task) -> bool:
        task.place = SENT
        record.inflight[task.seq] = task
        try:
            task.ticket = record.sender.send(task.message)  # type: ignore[union-attr, arg-type]
        except PeerDiedError:
            task.ticket = 0
        if task.ticket:
            return True
        del record.inflight[task.seq]
        task.place = QUEUED
        return False

    # -- what the actors and the node say

    def on_reply(self, record: ActorRecord, message: tuple[Any, ...]) -> None:
        """An actor has answered. May be called twice with the same message."""
        seq, kind, value, _ = message
        completion = self._completion
        task = record.inflight.get(seq)
        if task is None:
            return
        if kind == ITEM:
            taken = completion.item(task, value)
            if taken:
                self._runtime.send_control(record.address, (CONSUMED, seq, taken))
            return
        if kind < ERROR and task.stream is None:
            task.place = DONE
            completion.fill(task.returns[0], kind, value)
            task.held = None
        elif task.template.retry_exceptions and self._retry(record, task, completion.raised(kind, value)):
            return
        else:
            if kind == ERROR and is_constructor(task):
                error = raisable(value)
                record.init_failed = True
                self.dead(record, f"its constructor failed\n{error}")
            completion.settle(task, kind, value)
        # Another run of the same call may be under way already, if its object was lost at once.
        if record.inflight.get(seq) is task:
            del record.inflight[seq]
        if record.queue:
            with self.lock:
                self._flush(record)

    def _retry(self, record: ActorRecord, task: Task, error: bytes | None) -> bool:
        """Repeat a call whose exception is one to retry; False if it is not, or has been repeated enough."""
        template = task.template
        if error is None or task.cancelled or not _attempts_left(task):
            return False
        if template.retry_exceptions is not True and not template.chooses(raisable(error)):
            return False
        with self.lock:
            task.attempts += 1
            record.inflight.pop(task.seq, None)
            if template.retry_policy is not None:
                # It lets others pass: who waits for a better moment keeps nobody waiting.
                task.place = WAITING
                record.aside[task.seq] = task
                self._runtime.tasks.delay(task, template.retry_policy.pause_s(task.attempts))
                return True
            task.place = QUEUED
            self._queued.add(record)
            record.queue.appendleft(task)
            self._flush(record)
        return True

    def alive(self, record: ActorRecord, address: int) -> None:
        """An actor has a process: send it what has been called."""
        with self.lock:
            if record.state not in (PENDING, RESTARTING):
                return
            try:
                record.sender = self._runtime.endpoint.sender(address, WORK)
            except PeerDiedError:
                return
            record.address = address
            record.state = ALIVE
            self._runtime.peers[address] = record
            self._flush(record)
        self._fail_doubtful(record)

    def restarting(
        self, record: ActorRecord, address: int, report: dict[str, Any], is_sure: bool = True
    ) -> None:
        """An actor's process is dead, and there will be another, for sure or perhaps: sort the calls."""
        lost: list[Task] = []
        with self.lock:
            if record.state == DEAD or record.address not in (0, address):
                return
            sender, record.sender = record.sender, None
            self._runtime.peers.pop(address, None)
            record.state, record.address = RESTARTING, 0
            again: list[Task] = []
            for task in record.inflight.values():
                if is_constructor(task):
                    task.place, task.held = DONE, None
                elif sender is not None and sender.revoke(task.ticket):
                    again.append(task)
                elif not task.cancelled and _attempts_left(task):
                    task.attempts += 1
                    again.append(task)
                else:
                    lost.append(task)
            record.inflight.clear()
            if record.queue and is_constructor(record.queue[0]):
                # Once its arguments are there it is kept in the store, where the next process finds it.
                record.queue.popleft()
            for task in reversed(again):
                task.place = QUEUED
                record.queue.appendleft(task)
            if record.queue:
                self._queued.add(record)
            record.doubtful += [(task, describe_death(report)) for task in lost]
            self._node.send({"op": "resolve_actor", "actor": record.actor_id.hex()})
        if is_sure:
            self._fail_doubtful(record)

    def _fail_doubtful(self, record: ActorRecord) -> None:
        doubtful, record.doubtful = record.doubtful, []
        for task, report in doubtful:
            self._completion.give_back(task)
            error = record.unavailable_error(task.template.name, report)
            cancelled = exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
            self._completion.fail(task, cancelled if task.cancelled else error)

    def dead(self, record: ActorRecord, cause: str, answer: dict[str, Any] | None = None) -> None:
        """An actor is dead for good: so are its calls."""
        with self.lock:
            if record.state == DEAD:
                return
            record.state = DEAD
            record.cause = cause
            record.sender = None
            doomed = record.unfinished()
            record.inflight.clear()
            record.queue.clear()
            record.aside.clear()
            record.doubtful.clear()
            self._queued.discard(record)
            self._runtime.peers.pop(record.address, None)
        error: exceptions.OrchestratorError = record.died_error()
        if answer is not None and answer.get("error"):
            error = refusal(answer["error"], f"{record.name} can never be placed: {cause}", actor=True)
        for task in doomed:
            if task.place == SENT or task.attempts:
                self._completion.give_back(task)
            self._completion.fail(task, error)

    def on_actor_address(self, message: dict[str, Any]) -> None:
        """The node tells where an actor lives that was asked for, or how it died."""
        record = self._records.get(bytes.fromhex(message["actor"]))
        if record is None:
            return
        if message["state"] == "alive":
            self.alive(record, message["worker"])
        else:
            record.init_failed = record.init_failed or bool(message.get("init_failed"))
            report = message.get("report") or {}
            record.verdict = report.get("verdict", "")
            self.dead(record, message.get("cause") or describe_death(report))

    def on_died(self, message: dict[str, Any]) -> None:
        """The node tells that an actor's process is dead."""
        record = self._records.get(bytes.fromhex(message["actor"]))
        if record is None:
            return
        report = message.get("report") or {}
        if message.get("restarting"):
            self.restarting(record, message["worker"], report)
            return
        cause = message.get("cause") or describe_death(report)
        if message.get("restarts"):
            cause += f"\nit had been restarted {message['restarts']} times"
        record.init_failed = record.init_failed or bool(message.get("init_failed"))
        record.verdict = report.get("verdict", "")
        self.dead(record, cause)

    # -- handles, time

    def tick(self) -> None:
        """Forget actors that nobody here has handles of, and retry what a full channel refused."""
        while self._dropped:
            self._handle_gone(self._dropped.popleft())
        for record in list(self._queued):
            with self.lock:
                if not record.queue:
                    self._queued.discard(record)
                elif record.state == ALIVE:
                    self._flush(record)

    def _handle_gone(self, actor_id: bytes) -> None:
        with self.lock:
            record = self._records.get(actor_id)
            if record is None:
                return
            record.handles -= 1
            if record.handles > 0 or record.pending_count:
                return
            del self._records[actor_id]
            self._queued.discard(record)
            was_alive = record.state == ALIVE
            record.state, record.sender, record.cause = DEAD, None, "all handles to it are gone"
            if self._runtime.peers.get(record.address) is record:
                del self._runtime.peers[record.address]
        if was_alive:
            self._runtime.send_control(record.address, (CHECK_HANDLES,))

    # -- ending

    def kill(self, actor_id: bytes, no_restart: bool) -> None:
        """Kill an actor at once: what it does, what is queued and what comes fails with ActorDiedError.

        With `no_restart=False` its process dies as by accident, so that it is restarted if it may be.
        """
        reason = "killed by kill()"
        self._node.send(
            {"op": "kill_actor", "actor": actor_id.hex(), "no_restart": no_restart, "reason": reason}
        )
        record = self._records.get(actor_id)
        if record is not None and no_restart:
            self.dead(record, reason)

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a call.

        Raises:
            ValueError: `force=True`; killing the actor is `kill`'s business.
        """
        if force:
            raise ValueError("force=True does not apply to calls of actors; use kill() to end the actor")
        record: ActorRecord = task.actor  # type: ignore[assignment]
        task.cancelled = True
        with self.lock:
            revoked = task.place == SENT and record.sender is not None and record.sender.revoke(task.ticket)
            if revoked:
                record.inflight.pop(task.seq, None)
            record.aside.pop(task.seq, None)
        error = exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
        if revoked or task.place in (WAITING, QUEUED):
            if task.attempts:
                self._completion.give_back(task)
            self._completion.fail(task, error)
            with self.lock:
                self._flush(record)  # it may have held up others
        elif task.place == SENT:
            self._runtime.send_control(record.address, (CANCEL, task.seq, recursive))
            # The method may go on, having only been told; whoever waits for its result need not.
            self._completion.cancel(task, error)

    def unfinished(self) -> list[Task]:
        """Return all calls that are queued or with their actor."""
        with self.lock:
            return [task for record in self._records.values() for task in record.unfinished()]

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished calls made by this run of a task."""
        return [task for task in self.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a call is waiting for."""
        record = task.actor
        if record is None or record.state == PENDING:
            return "waiting for its actor to start"
        if record.state == RESTARTING:
            return "waiting for its actor to be restarted"
        if task.place == WAITING:
            what = f"its attempt number {task.attempts + 1}" if task.attempts else "its arguments"
            return f"waiting for {what}"
        return f"called on {record.name}" if task.place == SENT else "queued behind other calls"


def _attempts_left(task: Task) -> bool:
    retries_max = task.template.max_retries
    return retries_max < 0 or task.attempts < retries_max
