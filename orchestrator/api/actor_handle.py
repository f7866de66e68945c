"""Handles of actors: how their methods are called from anywhere."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import options as option_rules
from orchestrator.common.call_shape import CallShape
from orchestrator.common.ids import ActorID
from orchestrator.common.options import METHOD
from orchestrator.core import runtime as runtimes
from orchestrator.core.actor_record import ActorTraits
from orchestrator.core.runtime import Runtime
from orchestrator.core.task import Template
from orchestrator.objects.plasma_adapter import Hold

if TYPE_CHECKING:
    from orchestrator.dag.nodes import ClassMethodNode

#: Methods every actor has, with their number of results.
BUILT_IN = ("__ray_ready__", "__ray_terminate__", "__ray_call__")


class MethodSpec:
    """What a caller must know of a method: how it is called and what comes back."""

    __slots__ = ("options", "shape")

    def __init__(self, shape: CallShape | None, options: dict[str, Any]) -> None:
        self.shape = shape
        self.options = options

    def __reduce__(self) -> tuple[Any, ...]:
        return (MethodSpec, (self.shape, self.options))


class Description:
    """What a handle knows of its actor. Stored once in the session, under the actor's id."""

    __slots__ = ("groups", "max_task_retries", "methods", "name", "traits")

    def __init__(
        self,
        traits: ActorTraits,
        name: str | None,
        methods: dict[str, MethodSpec],
        groups: tuple[str, ...] = (),
        max_task_retries: int = 0,
    ) -> None:
        self.traits = traits
        self.name = name
        self.methods = methods
        #: concurrency groups of the actor
        self.groups = groups
        #: of methods that say nothing about it themselves
        self.max_task_retries = max_task_retries

    def __reduce__(self) -> tuple[Any, ...]:
        return (Description, (self.traits, self.name, self.methods, self.groups, self.max_task_retries))

    def template(self, name: str, options: dict[str, Any]) -> Template:
        """Return what all calls of a method with these options share.

        Raises:
            ValueError: the actor has no such concurrency group, or a time limit cannot be kept.
        """
        if options.get("timeout_s") is not None and self.traits.threaded:
            raise ValueError(
                f"{self.traits.class_name}.{name}: timeout_s cannot be kept for calls that run in threads: "
                "these cannot be interrupted; it can without max_concurrency and groups, or with `async def`"
            )
        group = options.get("concurrency_group")
        if group is not None and group not in self.groups:
            known = ", ".join(map(repr, self.groups)) or "none"
            raise ValueError(
                f"{self.traits.class_name}.{name}: there is no concurrency group {group!r}; "
                f"the actor has {known}. Declare it with @remote(concurrency_groups={{{group!r}: n}})"
            )
        num_returns = options.get("num_returns")
        retries = options.get("max_task_retries")
        return Template(
            name,
            options.get("name") or name,
            num_returns=1 if num_returns is None else num_returns,
            max_retries=self.max_task_retries if retries is None else retries,
            retry_exceptions=option_rules.value_of(options, "retry_exceptions"),
            retry_policy=options.get("retry_policy"),
            backpressure=options.get("generator_backpressure"),
            timeout_s=options.get("timeout_s"),
            concurrency_group=group,
            writable_args=bool(options.get("writable_args")),
        )


class ActorMethod:
    """A method of an actor: `handle.method.remote(...)`."""

    __slots__ = (
        "_actor_id",
        "_description",
        "_hold",
        "_name",
        "_options",
        "_runtime",
        "_shape",
        "_submit",
        "_template",
    )

    def __init__(
        self,
        runtime: Runtime,
        actor_id: bytes,
        hold: Hold | None,
        name: str,
        spec: MethodSpec,
        description: Description,
    ) -> None:
        # It keeps the actor alive by itself and does not refer to its handle: that would be a
        # cycle, and the actor would live until the next garbage collection.
        self._runtime = runtime
        self._actor_id = actor_id
        self._hold = hold
        self._name = name
        self._shape = spec.shape
        self._options = spec.options
        self._description = description
        self._submit = runtime.actors.submit
        self._template = description.template(name, spec.options)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call and return a reference to its result; calls of one caller run in order.

        Raises:
            TypeError: the method does not take these arguments.
        """
        runtime = self._runtime
        if not runtime.open:
            raise exceptions.ActorHandleNotFoundError("this handle belongs to a session that is over")
        shape = self._shape
        if shape is not None and (kwargs or not shape.low <= len(args) <= shape.high):
            shape.check(args, kwargs)
        return self._submit(self._actor_id, self._hold, self._template, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Make a call a node of a graph, to be run by `execute`; see `orchestrator.dag`.

        Raises:
            TypeError: the method does not take these arguments.
        """
        from orchestrator.dag.nodes import ClassMethodNode

        if self._shape is not None:
            self._shape.check(args, kwargs)
        handle = ActorHandle(self._runtime, self._actor_id, self._hold, self._description)
        # The method as it is, and not its options once more: `options` takes no generator's num_returns.
        return ClassMethodNode(handle, self._name, lambda _: self, self._options, args, kwargs)

    def options(self, **changes: Any) -> ActorMethod:
        """Return this method with other options: num_returns, max_task_retries, concurrency_group, ...

        Raises:
            ValueError, TypeError: an unknown option, or a value it does not take.
        """
        changed = MethodSpec(self._shape, option_rules.merge(METHOD, self._options, changes))
        return ActorMethod(self._runtime, self._actor_id, self._hold, self._name, changed, self._description)

    def _remote(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """`options(...).remote(...)` in one call, as libraries have it."""
        chosen = self.options(**options) if options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"an actor's method runs in the actor's process: call handle.{self._name}.remote(...) "
            f"instead of handle.{self._name}(...)"
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._name} of {self._actor_id.hex()})"


class _Met:
    """What a handle leaves with whatever it is pickled into, so that the actor lives as long as that."""

    __slots__ = ("hold",)

    def __init__(self, hold: Hold) -> None:
        self.hold = hold


class ActorHandle:
    """An actor, from outside. Picklable; the actor lives as long as there are handles."""

    _orchestrator_hold: Hold | None

    def __init__(
        self, runtime: Runtime, actor_id: bytes, hold: Hold | None, description: Description
    ) -> None:
        self._orchestrator_runtime = runtime
        self._orchestrator_id = actor_id
        self._orchestrator_hold = hold
        self._orchestrator_description = description

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_orchestrator"):
            raise AttributeError(name)
        description = self._orchestrator_description
        spec = description.methods.get(name)
        if spec is None:
            if name not in BUILT_IN and (description.methods or name.startswith("__")):
                known = ", ".join(sorted(description.methods))
                raise AttributeError(
                    f"actor {description.traits.class_name} has no method {name!r}; it has: {known}"
                )
            spec = MethodSpec(None, {})
        runtime = self._orchestrator_runtime
        if not runtime.open:
            raise exceptions.ActorHandleNotFoundError("this handle belongs to a session that is over")
        method = ActorMethod(runtime, self._orchestrator_id, self._orchestrator_hold, name, spec, description)
        self.__dict__[name] = method
        return method

    @property
    def _actor_id(self) -> ActorID:
        """The actor's id, by which libraries and the state API know it; a method of this name is hidden."""
        return ActorID(self._orchestrator_id)

    _ray_actor_id = _actor_id

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._orchestrator_description.methods})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._orchestrator_id == other._orchestrator_id

    def __hash__(self) -> int:
        return hash(self._orchestrator_id)

    def __repr__(self) -> str:
        class_name = self._orchestrator_description.traits.class_name
        return f"ActorHandle({class_name}, {self._orchestrator_id.hex()})"

    def __enter__(self) -> ActorHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        """End the actor in good order, and wait for that: what was called is finished, its hook runs."""
        try:
            ending = self.__ray_terminate__.remote()
            ending._runtime.get_one(ending, None)
        except exceptions.ActorError:
            pass

    def __reduce__(self) -> tuple[Any, ...]:
        runtime = self._orchestrator_runtime
        if not runtime.open:
            raise exceptions.ActorHandleNotFoundError("this handle belongs to a session that is over")
        references = runtime.references
        met = references.gathering.met
        if self._orchestrator_hold is not None:
            if met is None:
                references.pin_hold(self._orchestrator_hold)
            else:
                met.append(_Met(self._orchestrator_hold))
        return (rebuild_handle, (self._orchestrator_id,))


def rebuild_handle(actor_id: bytes) -> ActorHandle:
    """Make a handle from an actor's id; of one that has ended, a handle whose calls say so."""
    try:
        return find_handle(actor_id)
    except exceptions.ObjectLostError:
        return ActorHandle(runtimes.require(), actor_id, None, Description(ActorTraits("?"), None, {}))


def find_handle(actor_id: bytes) -> ActorHandle:
    """Like `rebuild_handle`.

    Raises:
        ObjectLostError: the actor is one of another node, and has just ended.
    """
    runtime = runtimes.require()
    known = runtime.actors.know(actor_id)
    if known is None:
        return ActorHandle(runtime, actor_id, None, Description(ActorTraits("?"), None, {}))
    record, hold = known
    description = Description(record.traits, None, {})
    buffer = runtime.store.try_get(actor_id)
    if buffer is None and runtime.references.is_foreign(actor_id):
        buffer = runtime.lineage.fetch(actor_id)
    if buffer is not None:
        description = pickle.loads(bytes(memoryview(buffer)))
        record.describe(description.traits)
    return ActorHandle(runtime, actor_id, hold, description)


__all__ = ["BUILT_IN", "ActorHandle", "ActorMethod", "Description", "MethodSpec", "rebuild_handle"]
