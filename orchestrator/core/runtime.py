"""What a driver and a worker have in common: everything a process needs to take part in a session.

One `Runtime` exists per process and session; its parts know each other only through it.

    store, endpoint   the node's memory and channels           (plasma)
    pump              reads what arrives                        pump.py
    node              the way to the node process               node_link.py
    references        who holds what                            references.py
    functions         code on its way to workers                functions.py
    environment       what submitted calls run in               environment_scope.py
    tasks, actors     calls that were submitted                 task_submitter.py, actor_submitter.py
    dispatcher        which task goes to which lent worker      dispatcher.py
    lineage           lost objects, made again                  lineage.py
    history, census   what ran here; the state of everybody     history.py, census.py
    elsewhere         processes of other nodes                   elsewhere.py
"""

from __future__ import annotations

import itertools
import json
import pickle
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import ADDRESS_BITS, object_id, process_prefix
from orchestrator.common.options import STREAMING
from orchestrator.common.priority import GET, PREFETCH, Priority
from orchestrator.core.cancellation import on_cancel_object
from orchestrator.core.current import current as current
from orchestrator.core.current import install as install
from orchestrator.core.current import require as require
from orchestrator.core.entry import BLOB, ERROR, PENDING, PLAIN, STATE_NAMES, STORED, Entry, Waiter
from orchestrator.core.failures import UnseenFailures
from orchestrator.core.messages import CANCEL_OBJECT, LONG, PROTOCOL, RETIRED, RETURNED, UNBLOCKED
from orchestrator.core.part import Part
from orchestrator.core.references import MissingObject
from orchestrator.core.values import raisable
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import CONTROL, PeerDiedError, loads

if TYPE_CHECKING:
    from orchestrator.core.actor_creation import ActorCreation
    from orchestrator.core.actor_record import ActorRecord
    from orchestrator.core.actor_submitter import ActorSubmitter
    from orchestrator.core.arguments import Arguments
    from orchestrator.core.dispatcher import Dispatcher
    from orchestrator.core.executor import Executor
    from orchestrator.core.leases import Lease
    from orchestrator.core.node_link import NodeLink
    from orchestrator.core.object_ref import ObjectRef
    from orchestrator.core.pump import Pump
    from orchestrator.core.references import References
    from orchestrator.core.task import Task
    from orchestrator.objects.plasma_adapter import Store


class Runtime(Part):
    """See the module's text."""

    dumps = staticmethod(pickle.dumps)
    #: whether tasks and actors have processes of their own
    has_processes = True

    def __init__(self, store: Store, session: str, node_address: int, info: dict[str, Any]) -> None:
        self.store = store
        self.endpoint = store.endpoint
        self.session = session
        self.info = info
        #: False once the session is over; references of it then raise
        self.open = True
        #: index of this node; 0 in a private session, which has no other
        self.here: int = info.get("node_index", 0)
        self.head: int = info.get("head_index", self.here)
        #: Its id, as users and scheduling strategies have it.
        self.node_id: str = info.get("node_id") or f"{node_address:016x}"
        self.worker_id = f"{self.here << ADDRESS_BITS | store.address:016x}"
        self.prefix = process_prefix(session, store.address, self.here)
        self.next_seq: Callable[[], int] = itertools.count(1).__next__
        #: leases and actors by address: who may send replies
        self.peers: dict[int, Lease | ActorRecord] = {}
        #: (submitter, seq) of the task whose code runs in this thread of control; None in a driver
        self.current_task: Any = None
        #: generators' tasks that nobody reads any more; a destructor can do no more than append
        self.abandoned: deque[Task] = deque()
        self._control_senders: dict[int, objects.Sender] = {}
        #: handlers of messages that only a worker or only a driver gets
        self.handlers: dict[str, Callable[..., None]] = {CANCEL_OBJECT: partial(on_cancel_object, self)}
        self.on_tick: Callable[[float], None] | None = None
        #: what runs tasks, in a worker; None in a driver
        self.executor: Executor | None = None

        from orchestrator.core import call_sites
        from orchestrator.core.callbacks import Callbacks
        from orchestrator.core.census import Census
        from orchestrator.core.completion import Completion
        from orchestrator.core.contexts import Contexts
        from orchestrator.core.elsewhere import Elsewhere
        from orchestrator.core.environment_scope import EnvironmentScope
        from orchestrator.core.functions import Functions
        from orchestrator.core.history import History
        from orchestrator.core.lineage import Lineage
        from orchestrator.core.task_submitter import TaskSubmitter

        make = self._part_classes()
        self.pump: Pump = make["Pump"](self.endpoint, self.handle)
        self.pump.tick = self.tick
        self.callbacks = Callbacks(self.call_user)
        self.node: NodeLink = make["NodeLink"](self.endpoint, node_address, self.pump)
        self.references: References = make["References"](store, self.id_of, self.here, self.node.send)
        self.environment = EnvironmentScope(info)
        self.functions = Functions(store, self.references, self.here)
        self.unseen = UnseenFailures(self.warn, raisable)
        self.completion = Completion(self.references, self.unseen)
        self.arguments: Arguments = make["Arguments"](store, self.references, self.prefix, self.next_seq)
        self.contexts = Contexts()
        self.dispatcher: Dispatcher = make["Dispatcher"](self)
        self.tasks = TaskSubmitter(self)
        self.actors: ActorSubmitter = make["ActorSubmitter"](self)
        self.actor_creation: ActorCreation = make["ActorCreation"](self, self.actors)
        self.lineage = Lineage(self)
        self.history = History()
        self.elsewhere = Elsewhere(self)
        self.census = Census(self)
        self.completion.note_failure = self.history.failed_task
        if call_sites.is_wanted():
            call_sites.record_call_sites(self)
        self.references.recover = self.lineage.recover
        self.functions.fetch = self.lineage.fetch
        self.handlers["missing"] = self.lineage.on_missing
        self.handlers["lost_object"] = self.references.on_lost
        self.completion.keep, self.completion.recover = self.lineage.keep, self.lineage.recover_early

    def _part_classes(self) -> dict[str, Callable[..., Any]]:
        """Return what the parts that know of other processes are made by; `inline` has others."""
        from orchestrator.core.actor_creation import ActorCreation
        from orchestrator.core.actor_submitter import ActorSubmitter
        from orchestrator.core.arguments import Arguments
        from orchestrator.core.dispatcher import Dispatcher
        from orchestrator.core.node_link import NodeLink
        from orchestrator.core.pump import Pump
        from orchestrator.core.references import References

        parts = (ActorCreation, ActorSubmitter, Arguments, Dispatcher, NodeLink, Pump, References)
        return {part.__name__: part for part in parts}

    def check_alive(self) -> None:
        """Raise SessionError when this runtime's session is over."""
        if not self.open or current() is not self:
            raise exceptions.SessionError("this reference belongs to a session that is over")

    def close(self) -> None:
        """End this process's part in the session.

        Functions, references and handles of the user's still refer to this object. They must not keep
        the store's memory, so nothing is left of it but what makes their errors readable.
        """
        self.open = False
        self.pump.close()
        self.unseen.report(monotonic())
        self.unseen.sum_up()
        if current() is self:
            install(None)
        self.references.link.store = None
        self.dispatcher.close()
        self.callbacks.close()
        self.end()
        for name in (
            "dispatcher", "tasks", "actors", "actor_creation", "arguments", "environment", "contexts",
            "completion", "functions", "lineage", "census", "elsewhere", "node", "references",
        ):  # fmt: skip
            getattr(self, name).lose_all()
            delattr(self, name)
        del self.pump
        for peer in self.peers.values():
            peer.sender = None  # type: ignore[assignment]
        self.peers.clear()
        self._control_senders.clear()
        self.handlers.clear()
        self.on_tick = None
        del self.endpoint, self.store

    def lose(self, error: exceptions.OrchestratorError) -> None:
        """Nothing will arrive any more: end all waits, and everything that is awaited, with this error."""
        self.pump.end_all_waits(error)
        for task in [*self.tasks.unfinished(), *self.actors.unfinished()]:
            self.completion.fail(task, error)
        self.references.lose(error)

    def id_of(self, entry: Entry) -> bytes:
        """Return the object's id; computed from its number when nobody has asked before."""
        ident = entry.ident
        if type(ident) is bytes:
            return ident
        return object_id(self.prefix, ident >> 24, ident & 0xFFFFFF)  # type: ignore[operator]

    # -- messages

    def handle(self, sender: int, payload: bytes) -> None:
        """Handle one message. Never raises for a bad one; handling one twice is harmless."""
        try:
            if payload[0] == 0x7B:  # {
                message = json.loads(payload)
                if message["op"] in _AFTER_ALL_OTHERS and "settled" not in message:
                    message["settled"] = True
                    self.pump.later(sender, json.dumps(message).encode())
                    return
                handler = _HANDLERS_OF_NODE.get(message["op"])
                if handler is not None:
                    handler(self, message)
                elif message["op"] in self.handlers:
                    self.handlers[message["op"]](message)
                return
            message = pickle.loads(payload)
            head = message[0]
            if type(head) is int:
                peer = self.peers.get(sender)
                if peer is not None:
                    if peer.state is None:  # type: ignore[union-attr]
                        self.tasks.on_reply(peer, message)  # type: ignore[arg-type]
                    else:
                        self.actors.on_reply(peer, message)  # type: ignore[arg-type]
            elif head == RETURNED:
                peer = self.peers.get(sender)
                if peer is not None:
                    self.dispatcher.on_returned(peer, message[1])  # type: ignore[arg-type]
            elif head == UNBLOCKED:
                peer = self.peers.get(sender)
                if peer is not None:
                    self.dispatcher.on_unblocked(peer)  # type: ignore[arg-type]
            elif head == RETIRED:
                peer = self.peers.get(sender)
                if peer is not None:
                    self.dispatcher.on_retired(peer, *message[1:])  # type: ignore[arg-type]
            elif head == LONG:
                self.elsewhere.handle_long(sender, message[1])
            else:
                self.handlers[head](sender, *message[1:])
        except Exception:
            if self.open:
                self.warn("a message could not be handled:\n" + traceback.format_exc())

    def on_died(self, message: dict[str, Any]) -> None:
        """A worker or an actor's process has died."""
        address = message["worker"]
        self._control_senders.pop(address, None)
        peer = self.peers.get(address)
        report = message.get("report") or {}
        node, there = message.get("process") or (self.here, address)
        self.history.deaths.append({**report, "worker": node << ADDRESS_BITS | there})
        if message.get("actor"):
            self.actors.on_died(message)
        elif peer is not None and peer.state is None:  # type: ignore[union-attr]
            self.tasks.on_died(peer, report)  # type: ignore[arg-type]
        elif peer is not None:
            # Only the home of an actor knows whether there will be another process.
            self.actors.restarting(peer, address, report, is_sure=False)  # type: ignore[arg-type]
        handler = self.handlers.get("died")
        if handler is not None:
            handler(address)
        self.references.owner_died(process_prefix(self.session, there, node))
        # The channels to it are memory of the store's.
        self.endpoint.close_sender(address)

    def send_control(self, address: int, message: tuple[Any, ...]) -> None:
        """Send a CONTROL message to another process; one that is dead does not mind."""
        try:
            sender = self._control_senders.get(address)
            if sender is None:
                sender = self._control_senders[address] = self.endpoint.sender(address, CONTROL)
            payload = pickle.dumps(message, PROTOCOL)
            while not sender.send(payload):
                self.pump.poll()
                self.endpoint.wait(0, 0.001, self.endpoint.bell())
        except PeerDiedError:
            self._control_senders.pop(address, None)

    def tick(self) -> float:
        """Do what is due; return the seconds until the next call is. Called by whoever reads messages."""
        now = monotonic()
        due = min(self.dispatcher.tick(now), self.references.scan())
        self.actors.tick()
        if self.tasks.delayed:
            due = min(due, self.tasks.tick(now))
        if self.unseen.waiting:
            self.unseen.report(now)
        while self.abandoned:
            self.cancel_task(self.abandoned.popleft(), force=False, recursive=True)
        if self.on_tick is not None:
            self.on_tick(now)
        return due

    def warn(self, text: str) -> None:
        """Tell the user something that is not an error."""
        from orchestrator.core.log_records import own_logger

        own_logger(self.info).warning("%s", text)

    def call_user(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a callback of the user; what it raises is shown, and stops nothing."""
        try:
            function(*args)
        except Exception:
            self.warn("a callback raised:\n" + traceback.format_exc())

    # -- submitting

    def make_returns(self, task: Task) -> Any:
        """Make what a call with `num_returns` other than 1 returns."""
        from orchestrator.core.generators import ObjectRefGenerator, Stream
        from orchestrator.core.object_ref import ObjectRef

        num_returns = task.template.num_returns
        number = task.seq << 24
        if num_returns == STREAMING:
            task.stream = Stream(Entry(number, 0, None, task))
            return ObjectRefGenerator(self, task, task.stream)
        task.returns = [Entry(number | index, 0, None, task) for index in range(num_returns)]
        return [ObjectRef(entry, self) for entry in task.returns] or None

    def address_of(self, task: Task) -> int:
        """Return the address of the process that runs a task, or 0."""
        runner = task.actor or task.lease
        return runner.address if runner is not None else 0

    # -- values

    def put(self, value: Any) -> Entry:
        """Keep a value and return its entry.

        Immutable small builtins are kept as they are, other small values as bytes, large ones, and those
        with references inside, in the store.
        """
        kind = type(value)
        number = self.next_seq() << 24
        if kind in _PLAIN_KINDS or ((kind is str or kind is bytes) and len(value) < config.PLAIN_TEXT_MAX):
            return Entry(number, PLAIN, value)
        state, payload, met = self.references.pack(value, "value")
        if state == BLOB:
            return Entry(number, BLOB, payload)
        entry = Entry(number, STORED)
        identity = self.id_of(entry)
        objects.put_value(self.store, identity, payload, met)
        self.references.adopt(entry, identity)
        return entry

    def value_of(self, entry: Entry, timeout: float | None = None) -> Any:
        """Return the value of an entry that is no longer PENDING, waiting for one that was lost; or raise."""
        try:
            return self.value_here(entry)
        except MissingObject:
            return self.lineage.value_again(entry, timeout)

    def value_here(self, entry: Entry) -> Any:
        """Like `value_of`, but MissingObject is raised when the object was lost, or is being made again."""
        state = entry.state
        if state == PLAIN:
            return entry.value
        try:
            if state == BLOB:
                return loads(entry.value)
            if state == STORED:
                return self.references.load(entry)
        except (objects.PlasmaSerializationError, objects.CorruptStoreError) as error:
            raise objects.rebuild_error(error) from error.__cause__
        if state == PENDING:
            raise MissingObject  # it was there; since then somebody, another thread maybe, has missed it
        raise raisable(entry.value)

    # -- waiting

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """Return the value of a reference, waiting for it.

        Raises:
            GetTimeoutError: `timeout` seconds passed first.
            Exception: what its task raised.
        """
        entry = ref._entry
        if not self.open:
            self.check_alive()
        if not entry.state:
            self.wait_entry(entry, timeout, "")
        return self.value_of(entry, timeout)

    def wait_entry(self, entry: Entry, timeout: float | None, what: str, priority: Priority = GET) -> None:
        """Wait for one entry; see `get_one`."""
        if type(entry.ident) is bytes:
            self.references.watch(entry, priority)
        deadline = None if timeout is None or timeout < 0 else monotonic() + timeout
        if not self.pump.wait(entry, deadline):
            raise exceptions.GetTimeoutError(f"not ready after {timeout:g} s: {what or self.explain(entry)}")

    def get_many(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Return the values of references, in order; raise the first error as soon as one is known."""
        entries = self.wait_for_all(refs, timeout)
        try:
            return [entry.value if entry.state == PLAIN else self.value_here(entry) for entry in entries]
        except MissingObject:
            self.lineage.recover_missing(entries)  # at the same time: it is hardly the only one
            return [self.lineage.value_again(entry, timeout) for entry in entries]

    def wait_for_all(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Entry]:
        """Return the entries of references once none is PENDING; raise the first error of one."""
        if not self.open:
            self.check_alive()
        entries = [ref._entry for ref in refs]
        pending = [entry for entry in entries if not entry.state]
        if pending and not any(entry.state == ERROR for entry in entries):
            waiter = Waiter(len(pending), stop_at_error=True, entries=pending)
            self._register(waiter, pending, GET)
            deadline = None if timeout is None or timeout < 0 else monotonic() + timeout
            try:
                if not self.pump.wait(waiter, deadline):
                    missing = [entry for entry in pending if not entry.state]
                    shown = "; ".join(self.explain(entry) for entry in missing[:5])
                    more = f"; and {len(missing) - 5} more" if len(missing) > 5 else ""
                    raise exceptions.GetTimeoutError(
                        f"{len(missing)} of {len(refs)} not ready after {timeout:g} s: {shown}{more}"
                    )
            finally:
                if not waiter.state:
                    self._unregister(waiter, pending)
        value_of = self.value_of
        for entry in entries:
            if entry.state == ERROR:
                value_of(entry)
        return entries

    def wait_many(self, entries: list[Entry], count: int, timeout: float | None) -> None:
        """Wait until `count` of the entries are done, or the time is over."""
        pending = [entry for entry in entries if not entry.state]
        need = count - (len(entries) - len(pending))
        if need <= 0:
            return
        waiter = Waiter(need, stop_at_error=False, entries=pending if need == len(pending) else [])
        self._register(waiter, pending, PREFETCH)
        try:
            self.pump.wait(waiter, None if timeout is None else monotonic() + timeout)
        finally:
            self._unregister(waiter, pending)

    def _register(self, waiter: Waiter, pending: list[Entry], priority: Priority) -> None:
        for entry in pending:
            entry.when_done(waiter)
            if type(entry.ident) is bytes:
                self.references.watch(entry, priority)

    def _unregister(self, waiter: Waiter, pending: list[Entry]) -> None:
        for entry in pending:
            if not entry.state:
                entry.forget(waiter)

    def explain(self, entry: Entry) -> str:
        """Say what state an object is in and what it waits for."""
        identity = self.id_of(entry).hex()
        task = entry.task
        if entry.state != PENDING:
            return f"{identity} is {STATE_NAMES[entry.state]}"
        if task is None:
            return f"{identity} is being produced for another process"
        where = (self.actors if task.actor is not None else self.tasks).describe(task)
        return f"{task.template.name} ({identity}) is {where}"

    # -- cancelling

    def cancel_task(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a task or an actor's call."""
        if task.actor is not None:
            self.actors.cancel(task, force, recursive)
        else:
            self.tasks.cancel(task, force, recursive)

    def cancel_children(self, parent: Any) -> None:
        """Cancel what a run of a task has submitted and not finished."""
        for task in [*self.tasks.children_of(parent), *self.actors.children_of(parent)]:
            self.cancel_task(task, force=False, recursive=True)


#: handled after all that has arrived: whom they are about may have answered before
_AFTER_ALL_OTHERS = frozenset({"died", "still_waiting"})

#: what the node says, by `op`
_HANDLERS_OF_NODE: dict[str, Callable[[Runtime, dict[str, Any]], None]] = {
    "granted": lambda self, m: self.dispatcher.on_granted(m["class"], m["worker"], m["pid"]),
    "reclaim": lambda self, m: self.dispatcher.on_reclaim(m["class"], m.get("worker")),
    "infeasible": lambda self, m: self.tasks.on_infeasible(m["class"], m["verdict"], m["cause"]),
    "died": Runtime.on_died,
    "actor_worker": lambda self, m: self.node.on_answer(m),
    "reply": lambda self, m: self.node.on_answer(m),
    "actor_address": lambda self, m: self.actors.on_actor_address(m),
}

_PLAIN_KINDS = frozenset({type(None), bool, int, float, complex})
