"""Handles of actors: how their methods are called from anywhere."""

from __future__ import annotations

import pickle
from typing import Any

from orchestrator import exceptions
from orchestrator.common import options as option_rules
from orchestrator.common.call_shape import CallShape
from orchestrator.common.options import METHOD
from orchestrator.core import runtime as runtimes
from orchestrator.core.entry import Hold
from orchestrator.core.runtime import Runtime
from orchestrator.core.task import Template

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

    __slots__ = ("class_name", "methods", "name")

    def __init__(self, class_name: str, name: str | None, methods: dict[str, MethodSpec]) -> None:
        self.class_name = class_name
        self.name = name
        self.methods = methods

    def __reduce__(self) -> tuple[Any, ...]:
        return (Description, (self.class_name, self.name, self.methods))


class ActorMethod:
    """A method of an actor: `handle.method.remote(...)`."""

    __slots__ = ("_actor_id", "_hold", "_name", "_runtime", "_shape", "_submit", "_template")

    def __init__(
        self, runtime: Runtime, actor_id: bytes, hold: Hold | None, name: str, spec: MethodSpec
    ) -> None:
        # It keeps the actor alive by itself and does not refer to its handle: that would be a
        # cycle, and the actor would live until the next garbage collection.
        self._runtime = runtime
        self._actor_id = actor_id
        self._hold = hold
        self._name = name
        self._shape = spec.shape
        self._submit = runtime.actors.submit
        self._template = _template(name, spec.options)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call and return a reference to its result; calls of one caller run in order.

        Raises:
            TypeError: the method does not take these arguments.
        """
        runtime = self._runtime
        if not runtime.open:
            raise exceptions.SessionError("this handle belongs to a session that is over")
        shape = self._shape
        if shape is not None and (kwargs or not shape.low <= len(args) <= shape.high):
            shape.check(args, kwargs)
        return self._submit(self._actor_id, self._hold, self._template, args, kwargs)

    def options(self, **changes: Any) -> ActorMethod:
        """Return this method with other options: num_returns, concurrency_group, ..."""
        template = self._template
        base = {"num_returns": template.num_returns} if template.num_returns != 1 else {}
        changed = option_rules.merge(METHOD, base, changes)
        return ActorMethod(
            self._runtime, self._actor_id, self._hold, self._name, MethodSpec(self._shape, changed)
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"an actor's method runs in the actor's process: call handle.{self._name}.remote(...) "
            f"instead of handle.{self._name}(...)"
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._name} of {self._actor_id.hex()})"


def _template(name: str, options: dict[str, Any]) -> Template:
    num_returns = options.get("num_returns")
    return Template(
        name,
        options.get("name") or name,
        num_returns=1 if num_returns is None else num_returns,
        backpressure=options.get("generator_backpressure"),
        concurrency_group=options.get("concurrency_group"),
    )


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
                    f"actor {description.class_name} has no method {name!r}; it has: {known}"
                )
            spec = MethodSpec(None, {})
        runtime = self._orchestrator_runtime
        if not runtime.open:
            raise exceptions.SessionError("this handle belongs to a session that is over")
        method = ActorMethod(runtime, self._orchestrator_id, self._orchestrator_hold, name, spec)
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._orchestrator_description.methods})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._orchestrator_id == other._orchestrator_id

    def __hash__(self) -> int:
        return hash(self._orchestrator_id)

    def __repr__(self) -> str:
        return f"ActorHandle({self._orchestrator_description.class_name}, {self._orchestrator_id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        runtime = self._orchestrator_runtime
        if not runtime.open:
            raise exceptions.SessionError("this handle belongs to a session that is over")
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
    runtime = runtimes.require()
    hold = runtime.actors.know(actor_id, "")
    description = Description("", None, {})
    if hold is not None:
        buffer = runtime.store.try_get(actor_id)
        if buffer is not None:
            description = pickle.loads(bytes(memoryview(buffer)))
            record = runtime.actors.record(actor_id)
            if record is not None and not record.class_name:
                record.class_name = description.class_name
    return ActorHandle(runtime, actor_id, hold, description)


__all__ = ["BUILT_IN", "ActorHandle", "ActorMethod", "Description", "MethodSpec", "rebuild_handle"]
