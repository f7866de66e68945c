"""Remote functions: what `@remote` makes of a function."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from orchestrator.api.session import ensure_runtime
from orchestrator.common import options as option_rules
from orchestrator.common.call_shape import CallShape
from orchestrator.common.options import DYNAMIC, STREAMING, TASK
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.common.task_context import PLAIN_CONTEXT, TaskContext, context_of
from orchestrator.core.circumstances import PLAIN_RESOURCES
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.runtime import Runtime, current
from orchestrator.core.task import Template

if TYPE_CHECKING:
    from orchestrator.dag.nodes import FunctionNode

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")  # what a call gives the caller: ObjectRef[R], ObjectRefGenerator of R's items, ...

_GENERATOR_FLAGS = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR


#: Sets of options a function remembers; and the types of their values, none of which can change meanwhile.
_CHANGED_MAX = 64
_PLAIN = frozenset({str, int, float, bool, type(None)})


def is_generator(function: Any) -> bool:
    """Tell whether calling the function gives a generator."""
    code = getattr(function, "__code__", None)
    return bool(code is not None and code.co_flags & _GENERATOR_FLAGS)


class RemoteFunction(Generic[P, R, S]):
    """A function that can also run in another process.

    `f(...)` calls it here, as ever; `f.remote(...)` submits it and returns an `ObjectRef` of its
    result; `f.options(num_cpus=2).remote(...)` does so with other options.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._shape = CallShape.of(function)
        self._runtime: Runtime | None = None
        self._template: Template | None = None
        self._submit: Callable[..., Any] | None = None
        #: templates that were made for this session, by what is asked of the scheduler
        self._templates: dict[SchedulingClass, Template] = {}
        self._prepared_for: Runtime | None = None
        #: what `options` has made of this one; a loop of `f.options(...).remote(...)` makes one of each kind
        self._changed: dict[Any, RemoteFunction[P, R, Any]] = {}
        num_returns = options.get("num_returns")
        if num_returns is None and is_generator(function):
            num_returns = STREAMING
        if (
            num_returns in (STREAMING, DYNAMIC)
            and isinstance(function, types.FunctionType)
            and not is_generator(function)
            and not hasattr(function, "__wrapped__")
        ):
            raise ValueError(
                f'num_returns="streaming" or "dynamic" needs a generator function, and {self._name} is none'
            )
        self._num_returns: int = 1 if num_returns is None else num_returns

    @property
    def _name(self) -> str:
        name = self._options.get("name") or getattr(self._function, "__qualname__", None)
        return str(name or repr(self._function))

    @property
    def _function_name(self) -> str:
        """The module and the name of the function, by which libraries tell functions apart."""
        function: Any = self._function
        return f"{function.__module__}.{getattr(function, '__name__', type(function).__name__)}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, in this process."""
        return self._function(*args, **kwargs)

    # The second lets a reference stand wherever a value may, which a ParamSpec cannot say.
    @overload
    def remote(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
    @overload
    def remote(self, *args: Any, **kwargs: Any) -> S: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call and return a reference to its result.

        References given as arguments are replaced by their values before the call runs.

        Raises:
            TypeError: the function does not take these arguments.
            SerializationError: an argument cannot be pickled.
        """
        runtime = current()
        if runtime is None or runtime is not self._runtime:
            self._prepare(ensure_runtime())
        shape = self._shape
        if shape is not None and (kwargs or not shape.low <= len(args) <= shape.high):
            shape.check(args, kwargs)
        return self._submit(self._template, args, kwargs)  # type: ignore[misc]

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """Make a call a node of a graph, to be run by `execute`; see `orchestrator.dag`.

        Raises:
            TypeError: the function does not take these arguments.
        """
        from orchestrator.dag.nodes import FunctionNode

        if self._shape is not None:
            self._shape.check(args, kwargs)
        return FunctionNode(self, args, kwargs)

    def _remote(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """`options(...).remote(...)` in one call, as libraries have it."""
        chosen = self.options(**options) if options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def local(self, *args: Any, **kwargs: Any) -> R:
        """Run the call here and now, and return its result itself: `f.remote`'s call, for a debugger.

        References given as arguments are replaced by their values. What is passed is not copied.

        Raises:
            Exception: what the function raises, as it is.
        """
        return self._function(*map(_value, args), **{name: _value(arg) for name, arg in kwargs.items()})

    def _prepare(self, runtime: Runtime) -> None:
        """Export the function to this session."""
        options = self._options
        key = runtime.functions.export(self._function, self._name)
        environment = runtime.environment.key_for(options.get("runtime_env"))
        context = context_of(options, runtime.contexts.current)
        wanted = option_rules.task_class(options, context, self._name)._replace(env=environment)
        if self._prepared_for is not runtime:
            self._prepared_for = runtime
            self._templates.clear()
        known = self._templates.get(wanted)
        self._template = known or self._make_template(runtime, key, wanted, context)
        self._templates[wanted] = self._template
        self._submit = runtime.tasks.submit
        self._runtime = runtime
        runtime.contexts.rely(self)

    def forget_preparation(self) -> None:
        """Prepare again at the next call: what the running task hands on to its children has changed."""
        self._runtime = None

    def _make_template(
        self, runtime: Runtime, key: bytes, wanted: SchedulingClass, context: TaskContext
    ) -> Template:
        options = self._options
        return Template(
            key,
            self._name,
            queue=runtime.dispatcher.queue_for(wanted),
            num_returns=self._num_returns,
            max_retries=option_rules.max_retries(options),
            retry_exceptions=option_rules.value_of(options, "retry_exceptions"),
            retry_policy=options.get("retry_policy"),
            backpressure=options.get("generator_backpressure"),
            circumstances=self._circumstances(wanted.resources.to_floats(), context),
            timeout_s=options.get("timeout_s"),
            writable_args=bool(options.get("writable_args")),
        )

    def _circumstances(self, resources: dict[str, float], context: TaskContext) -> dict[str, Any]:
        """Return what the worker must know beyond the usual; nothing, for most functions."""
        options = self._options
        found: dict[str, Any] = {}
        if options.get("name"):
            found["name"] = options["name"]
        if resources != PLAIN_RESOURCES:
            found["resources"] = resources
        if context != PLAIN_CONTEXT:
            found["context"] = context.to_wire()
        if option_rules.max_calls(options):
            found["max_calls"] = option_rules.max_calls(options)
        return found

    @overload
    def options(self, *, num_returns: int | str, **changes: Any) -> RemoteFunction[P, R, Any]: ...
    @overload
    def options(self, **changes: Any) -> RemoteFunction[P, R, S]: ...
    def options(self, **changes: Any) -> Any:
        """Return this function with other options; this one stays as it is.

        Raises:
            ValueError, TypeError: an unknown option, or a value it does not take.
        """
        if not _PLAIN.issuperset(map(type, changes.values())):
            return RemoteFunction(self._function, option_rules.merge(TASK, self._options, changes))
        # With their types, as `True` equals 1.
        key = tuple((name, type(value), value) for name, value in changes.items())
        known = self._changed.get(key)
        if known is None:
            known = RemoteFunction(self._function, option_rules.merge(TASK, self._options, changes))
            if len(self._changed) < _CHANGED_MAX:
                self._changed[key] = known
        return known

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A decorated function in a class body is a static helper there, not a method.
        return self

    def __repr__(self) -> str:
        return f"RemoteFunction({self._name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteFunction, (self._function, self._options))


def _value(argument: Any) -> Any:
    return argument._runtime.get_one(argument, None) if type(argument) is ObjectRef else argument
