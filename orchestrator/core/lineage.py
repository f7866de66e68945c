"""Lost objects are made again by running their tasks once more.

A task's result that lies in the store can be lost: its file on disk is damaged, somebody deleted it. Its
owner, the process that submitted the task, keeps the task's *spec*, the message as it was sent, and sends
it again:

    object missing ──▶ plan: which specs must run ──▶ entries PENDING, tasks queued ──▶ replies, as ever
                        │ an argument is missing too: its spec as well, and so on
                        └ one cannot be made: ERROR, with the reason

Whoever is not the owner asks the owner, and waits for the seal like for any other object.

What can be made again: results of tasks with retries left, whose arguments can be had. What cannot: what
was `put`, arguments passed by value that were too large for a message, results of tasks with
`max_retries=0` and of actors without `max_task_retries`. Small results travel in messages and cannot be lost.

Specs are found by the task's number, which is part of the object's id. Nothing is noted when a reference
goes: the store's table knows which objects anybody still holds, and now and then the specs of all others are
dropped (`purge`). A spec that a kept one needs for its arguments is kept with it, its object is not: memory
is freed with the last reference all the same. Beyond `bytes_max` the oldest specs go.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.ids import INDEX_BITS, index_of, object_id, sequence_of
from orchestrator.common.options import STREAMING
from orchestrator.common.priority import GET, Priority
from orchestrator.core.entry import ERROR, PENDING, STORED, Entry
from orchestrator.core.messages import PROTOCOL, RECOVER
from orchestrator.core.part import Part
from orchestrator.core.references import MissingObject
from orchestrator.core.task import Dependencies, Task, walk_held
from orchestrator.core.task_spec import (
    SPEC_BYTES,
    WHY_ACTOR,
    WHY_BY_VALUE,
    WHY_FORGOTTEN,
    WHY_NO_RETRIES,
    WHY_PUT,
    Source,
    TaskSpec,
)
from orchestrator.core.values import raisable
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Hold

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class CannotRebuild(Exception):
    """Carries the error of an object that cannot be made again."""

    def __init__(self, error: exceptions.OrchestratorError) -> None:
        self.error = error


class Plan:
    """What has to be run, and what is there already, to make one object again."""

    def __init__(self) -> None:
        self.specs: dict[int, TaskSpec] = {}
        #: what the arguments of these refer to, kept alive by being listed here
        self.present: dict[bytes, Entry] = {}
        #: the entries to be filled, by id
        self.wanted: dict[bytes, Entry] = {}


class Lineage(Part):
    """The specs of this process's tasks, and the making of lost objects."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._references = runtime.references
        self._lock = threading.RLock()
        self._specs: dict[int, TaskSpec] = {}
        self._added_bytes = 0
        self._purge_at_bytes = config.LINEAGE_PURGE_BYTES
        #: specs may take this much memory together
        self.bytes_max = config.LINEAGE_BYTES_MAX
        #: addresses of processes by the prefix of their ids
        self._owners: dict[bytes, int] = {}
        #: tasks that were run again
        self.rebuilt_count = 0
        runtime.handlers[RECOVER] = self.on_recover

    def __len__(self) -> int:
        return len(self._specs)

    # -- remembering

    def keep(self, task: Task, index: int) -> str | None:
        """Remember how a result in the store was made; return why not, if it cannot be made again."""
        spec = self._specs.get(task.seq)
        if spec is None:
            template = task.template
            if not template.max_retries:
                return WHY_ACTOR if task.actor is not None else WHY_NO_RETRIES
            sources = self._sources_of(task.held)
            if sources is None:
                return WHY_BY_VALUE
            spec = self._specs[task.seq] = TaskSpec(task, sources)
            self._added_bytes += spec.size_bytes
            if self._added_bytes > self._purge_at_bytes:
                self.purge()
        if index not in spec.indices[-1:]:
            spec.indices.append(index)
            self._added_bytes += 8
        return None

    def _sources_of(self, held: Any) -> tuple[Source, ...] | None:
        """Return what a task's arguments refer to; None if some of it goes with the task."""
        found: list[Source] = []
        for item, direct in walk_held(held, False):
            if type(item) is Entry:
                identity = self._references.id_of(item)
                spec = (
                    self._specs.get(sequence_of(identity)) if identity[:8] == self._runtime.prefix else None
                )
                found.append((identity, spec, direct))
            elif type(item) is Hold:
                return None
        return tuple(found)

    def purge(self) -> None:
        """Drop the specs of objects that nobody holds, and the oldest ones beyond `bytes_max`."""
        with self._lock:
            prefix = self._runtime.prefix
            knows = self._store.knows
            for seq, spec in list(self._specs.items()):
                if spec.running is None:
                    spec.indices = [i for i in spec.indices if knows(object_id(prefix, seq, i))]
                    if not spec.indices:
                        del self._specs[seq]
            needed = self._reachable()
            total = sum(spec.size_bytes for spec in needed)
            if total > self.bytes_max:
                for spec in sorted(needed, key=lambda spec: spec.seq):
                    total -= spec.size_bytes
                    spec.message, spec.sources, spec.size_bytes = None, (), SPEC_BYTES
                    if total <= self.bytes_max * 3 // 4:
                        break
            self._added_bytes = total
            self._purge_at_bytes = max(config.LINEAGE_PURGE_BYTES, 2 * total)
            if total < self.bytes_max:
                self._purge_at_bytes = min(self._purge_at_bytes, self.bytes_max)

    def _reachable(self) -> list[TaskSpec]:
        found = dict.fromkeys(self._specs.values())
        todo = list(found)
        while todo:
            for _, source, _ in todo.pop().sources:
                if source is not None and source not in found:
                    found[source] = None
                    todo.append(source)
        return list(found)

    # -- making again

    def recover(self, entry: Entry, priority: Priority = GET) -> None:
        """An object is missing: its entry is PENDING afterwards, or ERROR with the reason."""
        identity = self._references.id_of(entry)
        with self._lock:
            if entry.state in (PENDING, ERROR) or self._references.fetch(entry, priority):
                return
            if self._store.state(identity) == objects.FREED:
                text = f"object {identity.hex()} was freed: free() was called with it"
                self._decide(entry, exceptions.ObjectFreedError(text))
                return
            if identity[:8] == self._runtime.prefix:
                self._restore(entry, identity)
            elif self._references.is_foreign(identity):
                text = f"object {identity.hex()} is lost: its node is dead, or nobody referred to it any more"
                self._decide(entry, exceptions.ObjectLostError(text))
            else:
                self._ask_owner(entry, identity)

    def recover_missing(self, entries: Iterable[Entry], priority: Priority = GET) -> None:
        """See to it that those of these objects that are missing are brought here, or made again."""
        for entry in entries:
            if entry.state == STORED and self._references.is_missing(entry):
                self.recover(entry, priority)

    def value_again(self, entry: Entry, timeout: float | None) -> Any:
        """Return the value of an object that may be missing, or on its way once more.

        Raises:
            ObjectLostError: it cannot be made again; the text says why.
            GetTimeoutError: `timeout` seconds passed first.
        """
        runtime = self._runtime
        while True:
            if entry.state == PENDING:
                runtime.wait_entry(entry, timeout, "")
            try:
                return runtime.value_here(entry)
            except MissingObject:
                self.recover(entry)  # its retries bound how often

    def fetch(self, identity: bytes, priority: Priority = GET) -> Any:
        """Return the buffer of an object that is missing, once it has been made again.

        Raises:
            ObjectLostError: it cannot be; the text says why.
            Exception: what its task raised.
        """
        entry = self._references.borrow(identity)
        while True:
            if entry.state == PENDING:
                self._runtime.wait_entry(entry, None, "", priority)
            if entry.state == ERROR:
                raise raisable(entry.value)
            if not self._references.is_missing(entry):
                try:
                    buffer = self._store.try_get(identity)
                except objects.ObjectLostError:
                    buffer = None  # its file on disk is damaged
                if buffer is not None:
                    return buffer
            self.recover(entry, priority)

    def on_recover(self, sender: int, identity: bytes) -> None:
        """A process misses an object that this one owns."""
        with self._lock:
            self._references.give_up_fetching(identity)
            entry = self._references.own(identity)
            if entry is None:
                # The reference that the asking process has recorded for this one.
                entry = Entry(identity, STORED)
                entry.hold = Hold(self._references.link, identity)
            self._restore(entry, identity)

    def on_missing(self, message: dict[str, Any]) -> None:
        """The node says that no node has the bytes of an object any more that this process owns.

        This may overtake the reply of the task that has made it: then it is seen to when that comes.
        """
        identity = bytes.fromhex(message["object"])
        with self._lock:
            self._references.give_up_fetching(identity)
            entry = self._references.own(identity)
            task = self._under_way(identity, entry)
            if task is not None:
                self._runtime.completion.lost_early[identity] = task.attempts
                return
            if entry is None:
                if not self._store.add_ref(identity):
                    return  # nobody refers to it any more
                entry = Entry(int.from_bytes(identity[8:], "big"), STORED)
                entry.hold = Hold(self._references.link, identity)
            self._restore(entry, identity)

    def _under_way(self, identity: bytes, entry: Entry | None) -> Task | None:
        """Return the task that makes an object of this process, while its reply is not known."""
        if entry is not None:
            return entry.task if entry.state == PENDING else None
        seq = sequence_of(identity)
        if seq in self._specs:
            return self._specs[seq].running
        unfinished = (*self._runtime.tasks.unfinished(), *self._runtime.actors.unfinished())
        return next((task for task in unfinished if task.seq == seq), None)

    def recover_early(self, entry: Entry) -> None:
        """The reply is here of a task whose result is lost already."""
        with self._lock:
            self._restore(entry, self._references.id_of(entry))

    def _restore(self, entry: Entry, identity: bytes) -> None:
        """Bring back an object this process owns. Lock held."""
        if entry.state == PENDING:
            return
        if entry.state != STORED:
            # Its value is here: only the copy for others is lost.
            self._publish_again(entry, identity)
            return
        try:
            plan = self._plan(entry, identity)
        except CannotRebuild as reason:
            self._fail(entry, identity, reason.error)
            return
        self._run(plan)

    def _ask_owner(self, entry: Entry, identity: bytes) -> None:
        """Have an object made again by the process that owns it. Lock held."""
        owner = self.address_of(identity[:8])
        try:
            if not owner:
                raise objects.PeerDiedError("")
            renewed = self._store.renew(identity, owner)
        except objects.PeerDiedError:
            text = "is lost, and so is the process that owned it and could make it again"
            self._decide(entry, exceptions.OwnerDiedError(f"object {identity.hex()} {text}"))
            return
        except objects.ObjectExistsError as error:
            self._decide(entry, exceptions.ObjectLostError(str(error)))
            return
        if entry.hold is None:
            if not self._store.add_ref(identity):
                text = f"object {identity.hex()} no longer exists: its last reference is gone"
                self._decide(entry, exceptions.ObjectLostError(text))
                return
            entry.hold = Hold(self._references.link, identity)
        entry.state = PENDING
        if renewed:
            self._runtime.send_control(owner, (RECOVER, identity))
        self._references.watch(entry)

    def address_of(self, prefix: bytes) -> int:
        """Return the address of the process whose ids begin like this, or 0."""
        address = self._owners.get(prefix, 0)
        if not address:
            prefix_of = self._runtime.elsewhere.prefix_of
            self._owners = {
                prefix_of(client["address"]): client["address"]
                for client in self._store.clients()
                if client["state"] == "active"
            }
            address = self._owners.get(prefix, 0)
        return address

    def _fail(self, entry: Entry, identity: bytes, error: exceptions.OrchestratorError) -> None:
        self._decide(entry, error)
        self._publish_again(entry, identity)

    def _decide(self, entry: Entry, error: exceptions.OrchestratorError) -> None:
        entry.value = error
        entry.state = ERROR

    def _publish_again(self, entry: Entry, identity: bytes) -> None:
        try:
            self._store.renew(identity)
        except objects.PlasmaError:
            return
        self._references.publish(entry)

    # -- planning

    def _plan(self, entry: Entry, identity: bytes) -> Plan:
        """Find out what has to run so that this object exists again. Nothing is changed yet.

        Raises:
            CannotRebuild: one of the objects that are needed cannot be made.
        """
        plan = Plan()
        site = self._runtime.census.call_site_of(entry)
        name = f"object {identity.hex()}" + (f" (made at {site})" if site else "")
        spec = self._specs.get(sequence_of(identity))
        if spec is None:
            task_made = entry.value or (WHY_PUT if type(entry.ident) is int else WHY_FORGOTTEN)
            text = f"{name} is lost and cannot be made again: {task_made}"
            raise CannotRebuild(objects.lost_error(self._store, identity, text))
        todo = [(spec, identity, entry, name)]
        while todo:
            spec, identity, entry, name = todo.pop()
            plan.wanted[identity] = entry
            if spec.seq in plan.specs:
                continue
            if spec.running is not None:
                plan.specs[spec.seq] = spec
                continue
            refusal = spec.refusal(name)
            if refusal is not None:
                raise CannotRebuild(refusal)
            plan.specs[spec.seq] = spec
            for source, source_spec, _ in spec.sources:
                if source in plan.present or source in plan.wanted:
                    continue
                found = self._present(source)
                if found is not None:
                    plan.present[source] = found
                    continue
                name = f"object {source.hex()}, an argument of {spec.template.name},"
                source_spec = source_spec or self._specs.get(sequence_of(source))
                if source_spec is None or source[:8] != self._runtime.prefix:
                    why = "it was put, small, or owned by another process, and its last reference is gone"
                    raise CannotRebuild(
                        exceptions.ObjectReconstructionFailedError(
                            f"{name} is lost and cannot be made again: {why}"
                        )
                    )
                known = self._references.own(source)
                number = int.from_bytes(source[8:], "big")
                todo.append((source_spec, source, known or Entry(number, STORED), name))
        return plan

    def _present(self, identity: bytes) -> Entry | None:
        """Return the entry of an object that exists or is on its way; None if it would have to be made."""
        references = self._references
        if identity[:8] != self._runtime.prefix:
            borrowed = references.borrow(identity)
            return None if borrowed.state == ERROR else borrowed
        entry = references.own(identity)
        here = self._store.state(identity) in (
            objects.PENDING,
            objects.CREATED,
            objects.SEALED,
            objects.SPILLED,
        )
        if entry is None:
            return references.take(identity) if here else None
        if entry.state not in (PENDING, STORED) and not here:
            self._publish_again(entry, identity)
            return entry
        return entry if here else None

    # -- running

    def _run(self, plan: Plan) -> None:
        """Make the plan true: entries become PENDING, and the tasks that fill them are queued. Lock held."""
        started: list[tuple[Task, TaskSpec]] = []
        try:
            for identity, entry in plan.wanted.items():
                if entry.hold is None:
                    # Either records a reference for this process.
                    if not self._store.renew(identity):
                        self._store.declare(identity)
                    entry.hold = Hold(self._references.link, identity)
                    self._references.adopt(entry, identity)
                else:
                    self._store.renew(identity)
                entry.state = PENDING
        except objects.PlasmaError as error:
            for identity, entry in plan.wanted.items():
                self._fail(
                    entry, identity, exceptions.ObjectLostError(f"{error}; it cannot be made again now")
                )
            return
        runs: dict[int, Task] = {}
        for spec in plan.specs.values():
            run = spec.running
            if run is None:
                run = self._task_of(spec)
                spec.started(run)
                run.attempts = spec.attempts
                self.rebuilt_count += 1
                started.append((run, spec))
            runs[spec.seq] = run
        for identity, entry in plan.wanted.items():
            self._expect(runs[sequence_of(identity)], identity, entry)
        for task, spec in started:
            needs = [
                (plan.wanted.get(source) or plan.present[source], direct)
                for source, _, direct in spec.sources
            ]
            task.held = Dependencies(None, [entry for entry, _ in needs])
            submitter = self._runtime.tasks if task.actor is None else self._runtime.actors
            submitter.resubmit(task, [entry for entry, direct in needs if direct and not entry.state])

    def _task_of(self, spec: TaskSpec) -> Task:
        """Return a task that does the same once more, for the references that are alive."""
        from orchestrator.core.generators import Stream

        template, message = spec.template, spec.message
        assert message is not None
        task = Task(spec.seq, template, None)
        task.actor = spec.actor
        number = spec.seq << INDEX_BITS
        own = self._references.own
        prefix = self._runtime.prefix
        if template.num_returns == STREAMING:
            task.stream = Stream(Entry(number))
            task.stream.close()
            for index in spec.indices:
                known = own(object_id(prefix, spec.seq, index))
                if known is not None:
                    task.stream.stored[index - 1] = known
            message = _without_backpressure(message)
        else:
            for index in range(template.num_returns):
                task.returns.append(own(object_id(prefix, spec.seq, index)) or Entry(number | index, STORED))
        task.message = message
        return task

    def _expect(self, task: Task, identity: bytes, entry: Entry) -> None:
        """Let the run that is under way fill this entry."""
        index = index_of(identity)
        entry.task = task
        if task.stream is not None:
            task.stream.lost[index - 1] = entry
        else:
            task.returns[index] = entry


def _without_backpressure(message: bytes) -> bytes:
    """Nobody takes the items of a generator that runs again: it need not wait for that."""
    *head, options = pickle.loads(message)
    if not isinstance(options, dict) or "backpressure" not in options:
        return message
    options = {name: value for name, value in options.items() if name != "backpressure"}
    return pickle.dumps((*head, options), PROTOCOL)
