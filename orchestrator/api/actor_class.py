"""Actor classes: what `@remote` makes of a class.

The class stays the class it was: it can be instantiated here, subclassed and tested. It gains the names
`remote`, `options` and, unless it has them itself, `bind` and `_remote`, which subclasses inherit.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.api.actor_handle import ActorHandle, Description, MethodSpec, rebuild_handle
from orchestrator.api.remote_function import is_generator
from orchestrator.api.session import ensure_runtime
from orchestrator.common import options as option_rules
from orchestrator.common.call_shape import CallShape
from orchestrator.common.ids import random_id
from orchestrator.common.options import ACTOR, METHOD, STREAMING
from orchestrator.common.task_context import PLAIN_CONTEXT, context_of
from orchestrator.core.actor_record import SHUTDOWN_HOOKS, ActorTraits
from orchestrator.core.reports import refusal

if TYPE_CHECKING:
    from orchestrator.dag.nodes import ClassNode

_COROUTINE_FLAGS = 0x80 | 0x200  # CO_COROUTINE, CO_ASYNC_GENERATOR
_METHOD_OPTIONS = "__orchestrator_method__"


def method(*args: Any, **options: Any) -> Any:
    """Give a method of an actor class options: `@method(num_returns=2)`.

    Raises:
        ValueError, TypeError: an unknown option, or a value it does not take.
    """
    if args and not options and len(args) == 1 and callable(args[0]):
        return args[0]
    if args:
        raise TypeError("method() takes options by name only")
    checked = option_rules.merge(METHOD, {}, options)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _METHOD_OPTIONS, checked)
        return function

    return decorate


#: Special methods that are no calls of users: what every object has, and what the interpreter uses.
_NEVER_CALLED = frozenset(dir(object)) | {
    "__getattr__",
    "__del__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__setstate__",
}


class ClassInfo:
    """What is derived from a class once: its methods and its kind."""

    def __init__(self, cls: type) -> None:
        self.methods: dict[str, MethodSpec] = {}
        self.is_async = False
        for name in dir(cls):
            if name in ("remote", "options"):
                continue
            static = _find(cls, name)
            if name.startswith("__") and (name in _NEVER_CALLED or type(static) is not FunctionType):
                continue
            function = static.__func__ if isinstance(static, (classmethod, staticmethod)) else static
            if not callable(function) or isinstance(function, type):
                continue
            options = dict(getattr(function, _METHOD_OPTIONS, {}))
            if options.get("num_returns") is None and is_generator(function):
                options["num_returns"] = STREAMING
            shape = CallShape.of(function, skip_first=not isinstance(static, staticmethod))
            self.methods[name] = MethodSpec(shape, options)
            code = getattr(function, "__code__", None)
            if code is not None and code.co_flags & _COROUTINE_FLAGS:
                self.is_async = True
        init = cls.__init__  # type: ignore[misc]
        self.constructor = (
            CallShape.of(init, skip_first=True) if init is not object.__init__ else _NO_ARGUMENTS
        )
        if init is object.__init__ and _find(cls, "__new__") is not _find(object, "__new__"):
            self.constructor = None


def _find(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


_NO_ARGUMENTS = CallShape("__init__", (), 0, 0, False, {}, False)
_INFOS: weakref.WeakKeyDictionary[type, ClassInfo] = weakref.WeakKeyDictionary()


def info_of(cls: type) -> ClassInfo:
    """Return what is derived from a class."""
    info = _INFOS.get(cls)
    if info is None:
        info = _INFOS[cls] = ClassInfo(cls)
    return info


class ActorOptions:
    """An actor class with options: `A.options(num_cpus=1).remote(...)`."""

    __slots__ = ("_cls", "_options")

    def __init__(self, cls: type, options: dict[str, Any]) -> None:
        self._cls = cls
        self._options = options

    def options(self, **changes: Any) -> ActorOptions:
        """Return the class with further options.

        Raises:
            ValueError, TypeError: an unknown option, or a value it does not take.
        """
        if "concurrency_groups" in changes:
            raise ValueError(
                "concurrency_groups belong to the class, whose methods name them: "
                "give them to @remote(concurrency_groups={...})"
            )
        return ActorOptions(self._cls, option_rules.merge(ACTOR, self._options, changes))

    def bind(self, *args: Any, **kwargs: Any) -> ClassNode:
        """Make an actor that each execution of a graph creates anew; see `orchestrator.dag`.

        Raises:
            TypeError: the constructor does not take these arguments.
        """
        from orchestrator.dag.nodes import ClassNode

        info = info_of(self._cls)
        if info.constructor is not None:
            info.constructor.check(args, kwargs)
        return ClassNode(self, self._cls.__qualname__, info.methods, args, kwargs)

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Create an actor and return its handle at once; a failing constructor shows at its methods.

        Raises:
            TypeError: the constructor does not take these arguments, or the class is abstract.
            ValueError: options that do not go together, or a method's concurrency group that is not there.
            ActorAlreadyExistsError: a live actor has the name.
            InfeasibleError: named, and no node could ever hold it. Without a name, its calls raise this.
        """
        info = info_of(self._cls)
        abstract = getattr(self._cls, "__abstractmethods__", None)
        if abstract:
            names = ", ".join(sorted(abstract))
            raise TypeError(f"{self._cls.__qualname__} is abstract: it does not define {names}")
        if info.constructor is not None:
            info.constructor.check(args, kwargs)
        return _create(self._cls, info, self._options, args, kwargs)

    def _remote(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> ActorHandle:
        """`options(...).remote(...)` in one call, as libraries have it."""
        chosen = self.options(**options) if options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))


def _create(
    cls: type, info: ClassInfo, options: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ActorHandle:
    runtime = ensure_runtime()
    name = options.get("name")
    namespace = options.get("namespace") or runtime.info.get("namespace") or ""
    get_if_exists = bool(options.get("get_if_exists"))
    context = context_of(options, runtime.contexts.current)
    scheduling, held = option_rules.actor_class(options, context, cls.__qualname__)
    scheduling = scheduling._replace(env=runtime.environment.key_for(options.get("runtime_env")))
    traits = _traits(cls, info, options)
    class_name = traits.class_name
    groups = options.get("concurrency_groups") or {}
    max_task_retries = option_rules.value_of(options, "max_task_retries")
    description = Description(traits, name, info.methods, tuple(groups), max_task_retries)
    for method_name, spec in info.methods.items():
        if spec.options:
            description.template(method_name, spec.options)  # refuses what cannot be called
    detached = options.get("lifetime") == "detached"
    # A detached actor is not to end with this node: its home is the head's.
    home = runtime.head if detached else runtime.here
    created = runtime.actor_creation.create(
        runtime.functions.export(cls, class_name, home),
        traits,
        pickle.dumps(description),
        args,
        kwargs,
        request={
            "op": "create_actor",
            "actor": random_id(home).hex(),
            "name": name,
            "namespace": namespace,
            "class_name": class_name,
            **scheduling.to_message(),
            "hold": held.to_floats(),
            "get_if_exists": get_if_exists,
            "handle": "",
            "detached": detached,
            "max_restarts": traits.max_restarts,
            "has_hook": any(_find(cls, name) is not None for name in SHUTDOWN_HOOKS),
        },
        creation={
            "class_name": class_name,
            "name": name,
            "namespace": namespace,
            "detached": detached,
            "asyncio": info.is_async,
            "max_concurrency": options.get("max_concurrency"),
            "groups": groups,
            "resources": held.to_floats(),
            "context": None if context == PLAIN_CONTEXT else context.to_wire(),
        },
    )
    if isinstance(created, tuple):
        actor_id, hold = created
        return ActorHandle(runtime, actor_id, hold, description)
    if get_if_exists and created.get("found") and created.get("actor"):
        return rebuild_handle(bytes.fromhex(created["actor"]))
    if created.get("error") == "exists":
        raise exceptions.ActorAlreadyExistsError(
            f"an actor named {name!r} exists in namespace {namespace!r}; get_if_exists=True returns it"
        )
    text = str(created.get("cause") or created.get("error"))
    raise refusal(str(created.get("error")), f"actor {class_name} can never be placed: {text}", actor=True)


def _traits(cls: type, info: ClassInfo, options: dict[str, Any]) -> ActorTraits:
    """Return what callers must know, from the class and its options."""
    at_a_time = options.get("max_concurrency") or 1
    overlaps = info.is_async or at_a_time > 1 or bool(options.get("concurrency_groups"))
    out_of_order = options.get("allow_out_of_order_execution")
    if out_of_order is False and overlaps:
        raise ValueError(
            f"allow_out_of_order_execution=False cannot be kept for {cls.__qualname__}: async actors, those "
            "with max_concurrency above one and those with concurrency groups run several calls at a time"
        )
    return ActorTraits(
        cls.__qualname__,
        option_rules.value_of(options, "max_pending_calls"),
        option_rules.value_of(options, "max_restarts"),
        overlaps if out_of_order is None else out_of_order,
        threaded=overlaps and not info.is_async,
    )


class _Entrance:
    """`A.remote` and `A.options`, of the class they are looked up on: subclasses have their own."""

    __slots__ = ("_name", "_options")

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._name = name
        self._options = options

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(ActorOptions(owner, self._options), self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Entrance, (self._name, self._options))


def is_actor_class(value: Any) -> bool:
    """Tell whether `@remote` has made this an actor class, or a base of it."""
    return isinstance(value, type) and isinstance(_find(value, "remote"), _Entrance)


def make_actor_class(cls: type, options: dict[str, Any]) -> Any:
    """Give a class `remote`, `options`, `bind` and `_remote`.

    Raises:
        ValueError: the class has attributes of these names itself.
    """
    for name in ("remote", "options"):
        present = _find(cls, name)
        if present is not None and not isinstance(present, _Entrance):
            raise ValueError(
                f"{cls.__qualname__} has an attribute {name!r}, which an actor class needs for itself"
            )
    entrances = {name: _Entrance(name, options) for name in ("remote", "options")}
    for name in ("bind", "_remote"):
        present = _find(cls, name)
        if present is None or isinstance(present, _Entrance):
            entrances[name] = _Entrance(name, options)
    try:
        for name, entrance in entrances.items():
            setattr(cls, name, entrance)
    except TypeError:
        # A built-in class cannot be given attributes; a subclass of it can.
        return type(cls.__name__, (cls,), entrances)
    return cls
