"""Calls of actors: in order, straight into the actor's process.

For each actor this process knows there is a record. Calls are sent in the order they were made; one
whose arguments are not there yet holds up those behind it. The constructor of an actor created here is
the first call of its queue.

An actor lives as long as there are handles. They are counted as references of an object in the
store, whose id is the actor's: each process that has handles has one, and so has each call that is
under way. When the last is gone, the actor's process notices, finishes what was sent, and ends.

    PENDING ──address known──▶ ALIVE ──died, constructor failed, killed──▶ DEAD
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.core.entry import ERROR, Entry, Hold, StoreLink
from orchestrator.core.messages import CANCEL, CHECK_HANDLES, ITEM, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.reports import describe_death, refusal
from orchestrator.core.task import DONE, QUEUED, SENT, WAITING, Task, Template
from orchestrator.core.values import raisable
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import WORK, PeerDiedError, Sender, is_plain

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

PENDING, ALIVE, DEAD = range(3)


class ActorHold(Hold):
    """This process's reference to an actor; the actor is told when it goes, so that it can end at once."""

    __slots__ = ("dropped",)

    def __init__(self, link: StoreLink, object_id: bytes, dropped: deque[bytes]) -> None:
        super().__init__(link, object_id)
        self.dropped = dropped

    def __del__(self) -> None:
        super().__del__()
        self.dropped.append(self.object_id)


class ActorRecord:
    """One actor, as this process knows it."""

    __slots__ = (
        "actor_id",
        "address",
        "cause",
        "class_name",
        "inflight",
        "init_failed",
        "max_pending",
        "queue",
        "sender",
        "state",
    )

    def __init__(self, actor_id: bytes, class_name: str) -> None:
        self.actor_id = actor_id
        self.class_name = class_name
        self.state = PENDING
        self.address = 0
        self.sender: Sender | None = None
        #: calls that cannot be sent yet; in order
        self.queue: deque[Task] = deque()
        #: calls sent and not answered
        self.inflight: dict[int, Task] = {}
        #: why it is DEAD
        self.cause = ""
        self.init_failed = False
        self.max_pending = -1

    def died_error(self) -> exceptions.ActorDiedError:
        """Return the error of every call from now on."""
        text = f"actor {self.class_name} ({self.actor_id.hex()}) is dead: {self.cause or 'unknown cause'}"
        return exceptions.ActorDiedError(text, self.actor_id.hex(), self.init_failed)


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
        #: ids of actors whose last handle here has gone; a destructor can do no more than append
        self._dropped: deque[bytes] = deque()

    # -- creating and knowing

    def create(
        self,
        class_key: bytes,
        class_name: str,
        description: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: dict[str, Any],
        creation: dict[str, Any],
        max_pending: int,
    ) -> tuple[bytes, Hold] | dict[str, Any]:
        """Create an actor; return its id and a hold on it, or the node's answer if the name is taken.

        `description` is what a handle elsewhere needs to know; `request` the node's part, with a
        name or not; `creation` the worker's.
        """
        runtime = self._runtime
        actor_id = bytes.fromhex(request["actor"])
        objects.put_parts(runtime.store, actor_id, [description])
        hold = ActorHold(runtime.references.link, actor_id, self._dropped)
        record = ActorRecord(actor_id, class_name)
        record.max_pending = max_pending
        template = Template(class_key, f"{class_name}.__init__", creation={**creation, "id": actor_id.hex()})
        task = Task(self._next_seq(), template, runtime.current_task)
        task.actor = record
        task.returns.append(Entry(task.seq << 24, 0, None, task))
        self._pack(task, args, kwargs, self._ready)
        self._records[actor_id] = record
        if task.place == WAITING or task.message is not None:
            record.queue.append(task)
        else:
            record.queue.append(task)
            self._ready(task)
        # The constructor keeps the actor alive until it has run.
        task.held = (task.held, hold)
        if request["name"] is not None:
            answer = self._node.ask(request)
            if "worker" not in answer:
                self._records.pop(actor_id, None)
                return answer
            self._alive(record, answer["worker"])
        else:
            self._node.ask_later(request, lambda answer: self._created(record, answer))
        return actor_id, hold

    def _created(self, record: ActorRecord, answer: dict[str, Any]) -> None:
        if "worker" in answer:
            self._alive(record, answer["worker"])
        else:
            self._dead(record, str(answer.get("cause") or answer.get("error")), answer)

    def know(self, actor_id: bytes, class_name: str) -> Hold | None:
        """Take a reference to an actor created elsewhere; None when it has ended long ago."""
        runtime = self._runtime
        if not runtime.store.add_ref(actor_id):
            return None
        hold = ActorHold(runtime.references.link, actor_id, self._dropped)
        with self.lock:
            if actor_id not in self._records:
                self._records[actor_id] = ActorRecord(actor_id, class_name)
                self._node.send({"op": "resolve_actor", "actor": actor_id.hex()})
        return hold

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
        record = self._records.get(actor_id)
        if record is None:
            record = self._records[actor_id] = ActorRecord(actor_id, "")
            record.state, record.cause = DEAD, "it ended before this handle arrived"
        if 0 <= record.max_pending <= len(record.inflight) + len(record.queue):
            raise exceptions.PendingCallsLimitExceeded(
                f"{record.class_name} has {record.max_pending} calls pending, which is max_pending_calls"
            )
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
            self._pack(task, args, kwargs, self._ready)
            task.held = (task.held, hold)
        with self.lock:
            if record.state == ALIVE and not record.queue and task.message is not None:
                if self._send(record, task):
                    return result
            if record.state == DEAD:
                task.place = DONE
            else:
                record.queue.append(task)
                if task.place == QUEUED:
                    self._flush(record)
        if task.place == DONE:
            self._completion.fail(task, record.died_error())
        elif not seq & 15:
            runtime.pump.poll()
        return result

    def resubmit(self, task: Task, unready: list[Entry]) -> None:
        """Make a call that was answered once more, when these arguments of it are there again."""
        record: ActorRecord = task.actor  # type: ignore[assignment]
        with self.lock:
            dead = record.state == DEAD
            if not dead:
                record.queue.append(task)
        if dead:
            self._completion.fail(task, record.died_error())
        elif unready:
            self._runtime.arguments.wait_for(task, unready, self._ready)
        else:
            self._ready(task)

    def _ready(self, task: Task) -> None:
        with self.lock:
            if task.place == WAITING:
                task.place = QUEUED
            record = task.actor
            if record is not None and task in record.queue:
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
                    self._argument_failed(record, task, error)
                    continue
            if not self._send(record, task):
                return
            if queue and queue[0] is task:
                queue.popleft()

    def _argument_failed(self, record: ActorRecord, task: Task, error: Any) -> None:
        self._completion.fail(task, error)
        if task.template.options and "actor" in task.template.options:
            text = f"an argument of its constructor failed: {raisable(error)}"
            record.init_failed = True
            self._node.send(
                {"op": "kill_actor", "actor": record.actor_id.hex(), "no_restart": True, "reason": text}
            )
            self._dead(record, text)

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
        task = record.inflight.get(seq)
        if task is None:
            return
        if kind == ITEM:
            self._completion.item(task, value)
            return
        if kind < ERROR and task.stream is None:
            task.place = DONE
            self._completion.fill(task.returns[0], kind, value)
            task.held = None
        else:
            if kind == ERROR and task.template.options and "actor" in task.template.options:
                error = raisable(value)
                record.init_failed = True
                self._dead(record, f"its constructor failed\n{error}")
            self._completion.settle(task, kind, value)
        record.inflight.pop(seq, None)
        if record.queue:
            with self.lock:
                self._flush(record)

    def _alive(self, record: ActorRecord, address: int) -> None:
        with self.lock:
            if record.state != PENDING:
                return
            try:
                record.sender = self._runtime.endpoint.sender(address, WORK)
            except PeerDiedError:
                return
            record.address = address
            record.state = ALIVE
            self._runtime.peers[address] = record
            self._flush(record)

    def _dead(self, record: ActorRecord, cause: str, answer: dict[str, Any] | None = None) -> None:
        with self.lock:
            if record.state == DEAD:
                return
            record.state = DEAD
            record.cause = cause
            record.sender = None
            doomed = [*record.inflight.values(), *record.queue]
            record.inflight.clear()
            record.queue.clear()
            self._runtime.peers.pop(record.address, None)
        error: exceptions.OrchestratorError = record.died_error()
        if answer is not None and answer.get("error"):
            error = refusal(
                answer["error"], f"actor {record.class_name} can never be placed: {cause}", actor=True
            )
        for task in doomed:
            if task.place == SENT:
                self._completion.give_back(task)
            self._completion.fail(task, error)

    def on_actor_address(self, message: dict[str, Any]) -> None:
        """The node tells where an actor created elsewhere lives, or how it died."""
        record = self._records.get(bytes.fromhex(message["actor"]))
        if record is None:
            return
        if message["state"] == "alive":
            self._alive(record, message["worker"])
        else:
            self._dead(record, message.get("cause") or describe_death(message.get("report")))

    def on_died(self, actor_id: bytes, report: dict[str, Any]) -> None:
        """The node tells that an actor's process is dead."""
        record = self._records.get(actor_id)
        if record is not None:
            self._dead(record, describe_death(report))

    # -- handles, time

    def tick(self) -> None:
        """Tell actors that handles of theirs have gone, and retry what a full channel refused."""
        while self._dropped:
            actor_id = self._dropped.popleft()
            record = self._records.get(actor_id)
            if record is not None and record.address:
                self._runtime.send_control(record.address, (CHECK_HANDLES,))
        for record in list(self._records.values()):
            if record.queue and record.state == ALIVE:
                with self.lock:
                    self._flush(record)

    # -- ending

    def kill(self, actor_id: bytes, no_restart: bool) -> None:
        """Kill an actor at once: what it does, what is queued and what comes fails with ActorDiedError."""
        reason = "killed by kill()"
        self._node.send(
            {"op": "kill_actor", "actor": actor_id.hex(), "no_restart": no_restart, "reason": reason}
        )
        record = self._records.get(actor_id)
        if record is not None:
            self._dead(record, reason)

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a call.

        Raises:
            ValueError: `force=True`; killing the actor is `kill`'s business.
        """
        if force:
            raise ValueError("force=True does not apply to calls of actors; use kill() to end the actor")
        record = task.actor
        task.cancelled = True
        with self.lock:
            revoked = task.place == SENT and record.sender is not None and record.sender.revoke(task.ticket)  # type: ignore[union-attr]
            if revoked:
                record.inflight.pop(task.seq, None)  # type: ignore[union-attr]
        if revoked or task.place in (WAITING, QUEUED):
            self._completion.fail(task, exceptions.TaskCancelledError(f"{task.template.name} was cancelled"))
        elif task.place == SENT:
            self._runtime.send_control(record.address, (CANCEL, task.seq, recursive))  # type: ignore[union-attr]

    def unfinished(self) -> list[Task]:
        """Return all calls that are queued or with their actor."""
        with self.lock:
            return [
                task
                for record in self._records.values()
                for task in [*record.inflight.values(), *record.queue]
            ]

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished calls made by this run of a task."""
        return [task for task in self.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a call is waiting for."""
        record = task.actor
        if record is None or record.state == PENDING:
            return "waiting for its actor to start"
        if task.place == WAITING:
            return "waiting for its arguments"
        return f"called on actor {record.class_name}" if task.place == SENT else "queued behind other calls"
