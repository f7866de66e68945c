"""Creating actors: the constructor as the first call, and its copy in the store for restarts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import home_of, object_id, random_id
from orchestrator.core.actor_record import ActorRecord, ActorTraits
from orchestrator.core.entry import Entry
from orchestrator.core.part import Part
from orchestrator.core.task import DONE, WAITING, Dependencies, Task, Template
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Hold

if TYPE_CHECKING:
    from orchestrator.core.actor_submitter import ActorSubmitter
    from orchestrator.core.runtime import Runtime


class ActorCreation(Part):
    """Makes actors, for one process; their calls are the submitter's from there on."""

    def __init__(self, runtime: Runtime, submitter: ActorSubmitter) -> None:
        self._runtime = runtime
        self._submitter = submitter
        self._node = runtime.node
        self._node.unclaimed = self._on_late_answer

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
        """Create an actor; return its id and a hold on it, or the node's answer if the name is taken.

        `description` is what a handle elsewhere needs to know; `request` the node's part, with a
        name or not; `creation` the worker's.
        """
        runtime = self._runtime
        submitter = self._submitter
        actor_id = bytes.fromhex(request["actor"])
        # A detached actor is made by its home, from the store: this process may be gone by then.
        detached = bool(request["detached"])
        kept = self._promise(actor_id) if traits.max_restarts or detached else None
        if kept is not None:
            request["constructor"] = kept.object_id.hex()
        # What is needed once only, the node holds until it has been used.
        for_life = [kept.object_id] if kept is not None and traits.max_restarts else []
        objects.put_parts(runtime.store, actor_id, [description], for_life, resident=True)
        self._entrust(actor_id, actor_id, class_key)
        record = ActorRecord(actor_id, traits)
        hold = submitter.hold(record)
        options = {**creation, "id": actor_id.hex()}
        template = Template(class_key, f"{traits.class_name}.__init__", creation=options)
        task = Task(runtime.next_seq(), template, runtime.current_task)
        task.actor = record
        task.returns.append(Entry(task.seq << 24, 0, None, task))
        ready = partial(self._ready, kept=kept, sends=not detached)
        runtime.arguments.pack(task, args, kwargs, ready)
        submitter.enter(record, None if detached else task)
        if task.place != WAITING:
            ready(task)
        if detached:
            return self._have_made(record, request, kept) or (actor_id, hold)
        # The constructor keeps the actor alive until it has run.
        task.held = (task.held, hold)
        if request["name"] is not None:
            answer = self._node.ask(request)
            if "worker" in answer:
                submitter.alive(record, answer["worker"])
            elif "created" not in answer:
                submitter.forget(record)
                return answer
        else:
            self._node.ask_later(request, lambda answer: self._answered(record, answer))
        return actor_id, hold

    def _have_made(
        self, record: ActorRecord, request: dict[str, Any], kept: Hold | None
    ) -> dict[str, Any] | None:
        """Have the node make an actor; return its answer if it refuses. `kept` is the node's to hold then."""
        answer = self._node.ask(request)
        if "created" not in answer:
            self._submitter.forget(record)
            return answer
        self._node.send({"op": "resolve_actor", "actor": request["actor"]})
        return None

    def _on_late_answer(self, answer: dict[str, Any]) -> None:
        """A named actor, which was entered before, has its process by now; or never will."""
        record = self._submitter.record(bytes.fromhex(answer.get("actor", "")))
        if record is not None and ("worker" in answer or "error" in answer):
            self._answered(record, answer)

    def _answered(self, record: ActorRecord, answer: dict[str, Any]) -> None:
        if "worker" in answer:
            self._submitter.alive(record, answer["worker"])
        else:
            self._submitter.dead(record, str(answer.get("cause") or answer.get("error")), answer)

    def _entrust(self, actor_id: bytes, *objects: bytes) -> None:
        """Have the home of a detached actor take over what that needs, if that is another node."""
        if self._runtime.references.is_foreign(actor_id):
            for identity in objects:
                message = {"op": "entrust", "actor": actor_id.hex(), "object": identity.hex()}
                self._node.send(message)

    def _promise(self, actor_id: bytes) -> Hold:
        """Declare the object that will keep the constructor's call for restarts."""
        runtime = self._runtime
        identity = object_id(runtime.prefix, runtime.next_seq())
        if runtime.references.is_foreign(actor_id):
            identity = random_id(home_of(actor_id))
        runtime.store.declare(identity)
        return Hold(runtime.references.link, identity)

    def _ready(self, task: Task, kept: Hold | None, sends: bool) -> None:
        """The arguments of a constructor are there, or failed: keep its call if need be, and send it."""
        record: ActorRecord = task.actor  # type: ignore[assignment]
        error: Any = None
        try:
            if task.message is None and task.place != DONE:
                error = self._runtime.arguments.resolve(task)
            if kept is not None and task.message is not None:
                # Its references and its class live as long as the actor's object; not the actor itself.
                held = [identity for identity in _held_ids(task.held) if identity != record.actor_id]
                contained = [bytes(task.template.key), *held]  # type: ignore[arg-type]
                objects.put_parts(
                    self._runtime.store, kept.object_id, [task.message], contained, resident=True
                )
                self._entrust(record.actor_id, kept.object_id)
        except Exception as reason:
            error = reason
        if error is None and sends:
            self._submitter.ready(task)
        elif error is not None:
            self._submitter.argument_failed(record, task, error)


def _held_ids(held: Any) -> list[bytes]:
    """Return the ids of what a call's arguments hold: holds, things with holds, and collections of those."""
    if held is None:
        return []
    if isinstance(held, Dependencies):
        return _held_ids([held.inside, held.direct])
    if isinstance(held, (list, tuple)):
        return [identity for item in held for identity in _held_ids(item)]
    hold = held if isinstance(held, Hold) else held.hold
    return [hold.object_id] if hold is not None else []
