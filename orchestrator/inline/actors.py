"""Actors as objects of this process.

A *plain* actor's method runs at its call, on the caller's stack. Called while it runs (by itself, by what it
calls, or from another thread) the call waits in a queue, and whoever runs the actor runs it afterwards. An
*async* actor has an event loop on a thread of its own, a *threaded* one its threads, as their calls may wait
for each other. In each case it is the worker's own code that runs the call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.core.actor_record import ALIVE, DEAD, SHUTDOWN_HOOKS, ActorHold, ActorRecord, ActorTraits
from orchestrator.core.entry import ERROR, Entry
from orchestrator.core.messages import ITEM
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.reports import refusal
from orchestrator.core.task import DONE, QUEUED, SENT, Task, Template
from orchestrator.core.values import raisable
from orchestrator.inline.executor import InlineExecutor, Suspended
from orchestrator.inline.threads import InlineLoop, InlinePools
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import SEALED, Hold

if TYPE_CHECKING:
    from orchestrator.inline.runtime import InlineRuntime


class InlineActor(ActorRecord):
    """An actor and what runs its calls."""

    def __init__(
        self, actor_id: bytes, traits: ActorTraits, request: dict[str, Any], executor: InlineExecutor
    ) -> None:
        super().__init__(actor_id, traits)
        self.registered_name: str | None = request.get("name")
        self.namespace: str = request.get("namespace") or ""
        self.executor = executor
        self.detached: bool = bool(request.get("detached"))
        #: the constructor's call, to be repeated by a restart
        self.constructor: Task | None = None
        self.message = b""
        self.restarts = 0
        #: held by the thread that runs its calls
        self.lock = threading.Lock()
        #: that thread; 0 when none does
        self.owner = 0
        #: the call of a generator method that is between two items
        self.generator: Suspended | None = None
        #: where calls go that don't run on the caller's stack
        self.threads: InlineLoop | InlinePools | None = None
        #: why there can be no such actor
        self.refused: exceptions.OrchestratorError | None = None

    def first_message(self, constructor: Task) -> bytes:
        """Return the constructor's call, which `_construct` may need again."""
        self.message = constructor.message or self.message
        return self.message

    def error(self) -> exceptions.OrchestratorError:
        """Return the error of every call from now on."""
        return self.refused or self.died_error()


class _Dropped:
    """Handles that have gone are dealt with at once, where the runtime of processes collects them."""

    def __init__(self, on_dropped: Callable[[bytes], None]) -> None:
        self._on_dropped = on_dropped

    def append(self, actor_id: bytes) -> None:
        """Take note; called by destructors, so also when the session is over."""
        try:
            self._on_dropped(actor_id)
        except exceptions.SessionError:
            pass


class InlineActors(Part):
    """All actors of the session, and the calls they are running."""

    def __init__(self, runtime: InlineRuntime) -> None:
        self._runtime = runtime
        self._actors: dict[bytes, InlineActor] = {}
        self._dropped: Any = _Dropped(self._on_dropped)
        #: calls that have begun and not ended, by number
        self.inflight: dict[int, Task] = {}

    def listing(self) -> dict[str, Any]:
        """Return what the node of a session with processes answers to who asks for all actors."""
        actors = [
            {
                "actor": actor.actor_id.hex(),
                "name": actor.registered_name,
                "namespace": actor.namespace,
                "class_name": actor.traits.class_name,
                "state": "dead" if actor.state == DEAD else "alive",
                "worker": None if actor.state == DEAD else self._runtime.store.address,
                "detached": actor.detached,
                "restarts": actor.restarts,
                "cause": actor.cause,
            }
            for actor in self._actors.values()
        ]
        return {"actors": actors, "count": len(actors)}

    # -- creating and finding

    def create(
        self,
        class_key: bytes,
        traits: ActorTraits,
        description: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: dict[str, Any],
        creation: dict[str, Any],
    ) -> tuple[bytes, Hold] | dict[str, Any]:
        """Create an actor and run its constructor; see `ActorCreation.create`."""
        runtime = self._runtime
        if request["name"] is not None:
            found = self.find(request["namespace"], request["name"])
            if found["found"]:
                return found if request.get("get_if_exists") else {"error": "exists"}
        actor_id = bytes.fromhex(request["actor"])
        actor = InlineActor(actor_id, traits, request, InlineExecutor(runtime))
        cause = runtime.node.refusal_of(request["resources"])
        if cause is not None:
            if request["name"] is not None:
                return {"error": "infeasible", "cause": cause}
            actor.state = DEAD
            actor.refused = refusal("infeasible", f"{actor.name} can never be placed: {cause}", actor=True)
        options = {**creation, "id": actor_id.hex()}
        template = Template(class_key, f"{traits.class_name}.__init__", creation=options)
        task = Task(runtime.next_seq(), template, runtime.current_task)
        task.actor = actor
        task.returns.append(Entry(task.seq << 24, 0, None, task))
        runtime.arguments.pack(task, args, kwargs, lambda _: None)
        objects.put_parts(runtime.store, actor_id, [description])  # type: ignore[arg-type]
        hold = ActorHold(runtime.references.link, actor_id, self._dropped)
        self._actors[actor_id] = actor
        if actor.state != DEAD:
            actor.constructor = task
            self._construct(actor, task)
        return actor_id, hold

    def _construct(self, actor: InlineActor, task: Task) -> None:
        error = self._runtime.arguments.resolve(task) if task.message is None else None
        if error is not None:
            actor.init_failed = True
            self._dead(actor, f"an argument of its constructor failed: {raisable(error)}")
            return
        actor.state = ALIVE
        self.inflight[task.seq] = task
        actor.owner = get_ident()
        with actor.lock:
            actor.executor.carry_out(actor.first_message(task))
        actor.owner = 0
        worker = actor.executor.actor
        if worker is not None and worker.owns_loop and not actor.executor.stopping:
            threads = InlineLoop if worker.is_async else InlinePools
            actor.threads = threads(actor.executor, lambda: self._ended(actor))
            actor.threads.start()
        elif actor.executor.stopping:
            self._ended(actor)
        else:
            self._serve(actor)

    def find(self, namespace: str, name: str) -> dict[str, Any]:
        """Return where a named actor is, as the node would say it."""
        for actor in self._actors.values():
            if actor.registered_name == name and actor.namespace == namespace and actor.state != DEAD:
                return {"found": True, "actor": actor.actor_id.hex()}
        return {"found": False}

    def list_names(self, namespace: str | None, skip: int) -> dict[str, Any]:
        """Return the names of living actors, as the node would."""
        found = sorted(
            (actor.namespace, actor.registered_name)
            for actor in self._actors.values()
            if actor.registered_name and actor.state != DEAD and namespace in (None, actor.namespace)
        )
        names = [{"namespace": space, "name": name} for space, name in found]
        return {"names": names[skip:], "count": len(names)}

    def end_with_hooks(self) -> dict[str, Any]:
        """End, with the session, the actors that want to know of it."""
        for actor in list(self._actors.values()):
            worker = actor.executor.actor
            if worker is not None and any(hasattr(worker.instance, name) for name in SHUTDOWN_HOOKS):
                worker.cause = "the session ends"
                self._end_if_idle(actor)
        return {"count": 0}

    def know(self, actor_id: bytes) -> tuple[ActorRecord, Hold] | None:
        """Take a reference to an actor; None when it has ended long ago."""
        actor = self._actors.get(actor_id)
        if actor is None or not self._runtime.store.add_ref(actor_id):
            return None
        return actor, ActorHold(self._runtime.references.link, actor_id, self._dropped)

    # -- calling

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
        actor = self._actors.get(actor_id)
        if actor is None:
            actor = _ended_before(actor_id, InlineExecutor(runtime))
        if 0 <= actor.max_pending <= actor.pending_count:
            raise exceptions.PendingCallsLimitExceeded(
                f"{actor.name} has {actor.max_pending} calls pending, which is max_pending_calls"
            )
        task = Task(runtime.next_seq(), template, runtime.current_task)
        task.actor = actor
        if template.num_returns == 1:
            entry = Entry(task.seq << 24, 0, None, task)
            task.returns.append(entry)
            result: Any = ObjectRef(entry, runtime)
        else:
            result = runtime.make_returns(task)
        runtime.arguments.pack(task, args, kwargs, lambda _: None)
        error = runtime.arguments.resolve(task) if task.message is None else None
        task.held = (task.held, hold)
        if error is not None:
            runtime.completion.fail(task, error)
        elif actor.state == DEAD:
            runtime.completion.fail(task, actor.error())
        else:
            actor.queue.append(task)
            self._serve(actor)
        return result

    def _serve(self, actor: InlineActor) -> None:
        """Run the calls in the actor's queue, unless another thread, or this one further out, is at it."""
        while actor.queue and not self._is_held_up(actor) and actor.lock.acquire(blocking=False):
            actor.owner = get_ident()
            try:
                while actor.queue and not self._is_held_up(actor):
                    self._begin(actor, actor.queue.popleft())
            finally:
                actor.owner = 0
                actor.lock.release()
        if actor.executor.stopping and actor.threads is None:
            self._end_if_idle(actor)

    def _is_held_up(self, actor: InlineActor) -> bool:
        """Whether a generator of the actor's that waits for its reader holds up the calls behind it."""
        generator = actor.generator
        if generator is None or actor.executor.actor is None or actor.executor.actor.owns_loop:
            return False
        if not generator.is_bounded:
            generator.finish()
        return actor.generator is not None

    def _begin(self, actor: InlineActor, task: Task) -> None:
        if task.place == DONE:
            return
        if actor.state == DEAD or actor.executor.quitting:
            self._runtime.completion.fail(task, actor.error())
            return
        task.place = SENT
        actor.inflight[task.seq] = self.inflight[task.seq] = task
        message: bytes = task.message  # type: ignore[assignment]
        if actor.threads is not None:
            actor.threads.deliver(self._runtime.store.address, message)
            return
        actor.executor.carry_out(message)
        generator = self._runtime.generators.get(task.seq)
        if generator is not None:
            actor.generator = generator
            generator.on_end = lambda: self._generator_ended(actor)
        if actor.executor.quitting:
            self._ended(actor)

    def _generator_ended(self, actor: InlineActor) -> None:
        actor.generator = None
        if actor.owner == 0:
            self._serve(actor)

    def on_reply(self, reply: tuple[Any, ...]) -> bool:
        """An actor has answered; False if it is no call of an actor's that this replies to."""
        seq, kind, value, _ = reply
        task = self.inflight.get(seq)
        if task is None:
            return False
        completion = self._runtime.completion
        if kind == ITEM:
            completion.item(task, value)
            return True
        actor: InlineActor = task.actor  # type: ignore[assignment]
        self.inflight.pop(seq, None)
        actor.inflight.pop(seq, None)
        if kind == ERROR and task is actor.constructor:
            actor.init_failed = True
            actor.cause = f"its constructor failed\n{raisable(value)}"
        if task.template.retry_exceptions and self._retries(task, completion.raised(kind, value)):
            actor.queue.appendleft(task)
            if actor.threads is not None:
                self._serve(actor)
        else:
            completion.settle(task, kind, value)
        return True

    def _retries(self, task: Task, error: bytes | None) -> bool:
        """Decide whether a call is to be repeated after this exception."""
        limit = task.template.max_retries
        if error is None or task.cancelled or 0 <= limit <= task.attempts:
            return False
        if task.template.retry_exceptions is not True and not task.template.chooses(raisable(error)):
            return False
        task.attempts += 1
        if task.template.retry_policy is not None:
            time.sleep(task.template.retry_policy.pause_s(task.attempts))
        task.place = QUEUED
        return True

    # -- ending

    def _on_dropped(self, actor_id: bytes) -> None:
        runtime = self._runtime
        actor = self._actors.get(actor_id)
        if actor is None or actor.state == DEAD or actor.detached or not runtime.open:
            return
        if runtime.store.state(actor_id) != SEALED:
            actor.executor.stop()
            if actor.threads is not None:
                actor.threads.stop_when_idle()
            else:
                self._end_if_idle(actor)

    def _end_if_idle(self, actor: InlineActor) -> None:
        if actor.owner == 0 and not actor.queue and actor.generator is None and actor.state != DEAD:
            self._ended(actor)

    def _ended(self, actor: InlineActor) -> None:
        """The actor has come to its end: its hook runs, and what is still called fails."""
        worker = actor.executor.actor
        if actor.state == DEAD or worker is None:
            return
        if worker.instance is not None:
            outer = self._runtime.enter(actor.executor)
            try:
                worker.finish()
            finally:
                self._runtime.leave(outer)
        self._dead(actor, actor.cause or worker.cause)

    def _dead(self, actor: InlineActor, cause: str) -> None:
        actor.state = DEAD
        actor.cause = cause
        self._lose(actor, lambda task: actor.error())
        if actor.executor.actor is not None and actor.owner == 0:
            actor.executor.actor.instance = None
        actor.executor.callables.clear()

    def _lose(self, actor: InlineActor, error: Callable[[Task], exceptions.OrchestratorError]) -> None:
        """What is called and not done fails."""
        doomed = actor.unfinished()
        actor.inflight.clear()
        actor.queue.clear()
        for task in doomed:
            self._runtime.completion.fail(task, error(task))
            self.inflight.pop(task.seq, None)

    def kill(self, actor_id: bytes, no_restart: bool) -> None:
        """End an actor at once; what runs on its threads is left to itself, and its results are dropped."""
        actor = self._actors.get(actor_id)
        if actor is None or actor.state == DEAD:
            return
        again = not no_restart and (
            actor.traits.max_restarts < 0 or actor.restarts < actor.traits.max_restarts
        )
        if again:
            self._lose(actor, lambda task: actor.unavailable_error(task.template.name, "killed by kill()"))
        else:
            self._dead(actor, "killed by kill()")
        if actor.generator is not None:
            actor.generator.close()
        if actor.threads is not None:
            actor.threads.kill()
        if again and actor.constructor is not None:
            actor.restarts += 1
            actor.threads = None
            actor.executor = InlineExecutor(self._runtime)
            self._construct(actor, actor.constructor)

    def end_all(self) -> None:
        """End all actors with the session; those with hooks have run them."""
        for actor in list(self._actors.values()):
            if actor.state != DEAD:
                actor.state = DEAD
                actor.cause = "the session is over"
            if actor.threads is not None:
                actor.threads.kill()

    def cancel(self, task: Task, force: bool, recursive: bool) -> None:
        """Cancel a call that has not ended.

        Raises:
            ValueError: `force=True`; killing the actor is `kill`'s business.
        """
        if force:
            raise ValueError("force=True does not apply to calls of actors; use kill() to end the actor")
        runtime = self._runtime
        task.cancelled = True
        if task.place == QUEUED:
            runtime.completion.fail(
                task, exceptions.TaskCancelledError(f"{task.template.name} was cancelled")
            )
        elif task.place == SENT:
            generator = runtime.generators.get(task.seq)
            if generator is not None:
                generator.close()
            else:
                executor: InlineExecutor = task.actor.executor  # type: ignore[union-attr]
                executor.on_cancel(runtime.store.address, task.seq, recursive)

    def unfinished(self) -> list[Task]:
        """Return all calls that are queued or under way."""
        waiting = [task for actor in self._actors.values() for task in actor.queue]
        return [*self.inflight.values(), *waiting]

    def children_of(self, parent: Any) -> list[Task]:
        """Return the unfinished calls made by this run of a task."""
        return [task for task in self.unfinished() if task.parent == parent]

    def describe(self, task: Task) -> str:
        """Say in a few words what a call is waiting for."""
        name = task.actor.name if task.actor is not None else "?"
        return f"under way on {name}" if task.place == SENT else f"queued behind other calls of {name}"


def _ended_before(actor_id: bytes, executor: InlineExecutor) -> InlineActor:
    actor = InlineActor(actor_id, ActorTraits("?"), {}, executor)
    actor.state, actor.cause = DEAD, "it ended before this handle arrived"
    return actor
