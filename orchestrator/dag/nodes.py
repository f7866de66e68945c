"""What `bind` makes: calls as nodes of a graph, and their execution as ordinary calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.dag.compiled import CompiledDAG


class DAGNode:
    """A step of a graph, with the nodes it takes its arguments from."""

    def __init__(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})

    @property
    def upstream(self) -> list[DAGNode]:
        """The nodes among the arguments, also those inside lists, tuples and dicts."""
        return list(_nodes_in((self._args, self._kwargs)))

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph up to this node, each node once, and return what its call returns: a reference.

        The arguments are what the graph's `InputNode` stands for.

        Raises:
            ValueError: arguments without an InputNode to take them, or the other way round.
        """
        order = ordered(self)
        given = GraphInput.of(order, args, kwargs)
        results: dict[DAGNode, Any] = {}
        for node in order:
            results[node] = node._run(
                _replace(node._args, results), _replace(node._kwargs, results), given, results
            )
        return results[self]

    def experimental_compile(
        self,
        _submit_timeout: float | None = None,
        _buffer_size_bytes: int | None = None,
        enable_asyncio: bool = False,
        _max_inflight_executions: int | None = None,
        _max_buffered_results: int | None = None,
        _overlap_gpu_communication: bool | None = None,
        _default_communicator: Any = "create",
    ) -> CompiledDAG:
        """Set the graph up in its actors, so that an execution is a message to the next actor at each step.

        Args:
            _submit_timeout: seconds `execute` waits while as many executions as may be are under way.
            _buffer_size_bytes: accepted; values of any size pass.
            enable_asyncio: accepted; `execute_async` is always there.
            _max_inflight_executions: how many executions may be under way at a time.
            _max_buffered_results: how many results may wait for their `get`.
            _overlap_gpu_communication, _default_communicator: accepted; there is no GPU transport.

        Raises:
            ValueError: the graph has a node that is no actor's method, or an actor is in another graph.
            ActorDiedError: one of the actors is dead.
        """
        from orchestrator.dag.compiled import compile_graph

        return compile_graph(self, _submit_timeout, _max_inflight_executions, _max_buffered_results)

    def with_tensor_transport(self, transport: str = "auto") -> DAGNode:
        """Return this node: tensors in main memory pass as they are, and there is no other transport.

        Raises:
            ValueError: another transport is asked for.
        """
        if transport not in ("auto", "shm"):
            raise ValueError(f"tensor transport {transport!r} is not available; there are 'auto' and 'shm'")
        return self

    @property
    def label(self) -> str:
        """The node in a few words."""
        return type(self).__name__

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"

    def __reduce__(self) -> Any:
        raise TypeError("a node of a graph cannot be pickled: execute() the graph and pass its result")


class InputNode(DAGNode):
    """What `execute` will be given: `with InputNode() as x: graph = f.bind(x)`.

    `x[0]` and `x.name` stand for one of several arguments, or for an item or attribute of a single one.
    """

    def __enter__(self) -> InputNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __getattr__(self, name: str) -> InputAttributeNode:
        if name.startswith("_"):
            raise AttributeError(name)
        return InputAttributeNode(self, name, is_attribute=True)

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        return InputAttributeNode(self, key, is_attribute=False)

    @property
    def label(self) -> str:
        """The node in a few words."""
        return "input"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return given


class InputAttributeNode(DAGNode):
    """A part of what `execute` will be given."""

    def __init__(self, source: InputNode, key: int | str, is_attribute: bool) -> None:
        super().__init__()
        self._source = source
        self.key = key
        self.is_attribute = is_attribute

    @property
    def upstream(self) -> list[DAGNode]:
        """The input it is a part of."""
        return [self._source]

    @property
    def label(self) -> str:
        """The node in a few words."""
        return f"input.{self.key}" if self.is_attribute else f"input[{self.key!r}]"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return given.part(self)


class CallNode(DAGNode):
    """A call, of a function or a method: what has results.

    One with `num_returns=n` can be taken apart: `x, y = f.bind(...)`.
    """

    @property
    def num_returns(self) -> int:
        """How many results it has."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[ResultNode]:
        return (self[index] for index in range(self._parts()))

    def __getitem__(self, index: int) -> ResultNode:
        count = self._parts()
        if not -count <= index < count:
            raise IndexError(f"{self.label} has {count} results, and none with the number {index}")
        return ResultNode(self, index % count)

    def _parts(self) -> int:
        if self.num_returns < 2:
            raise TypeError(
                f"{self.label} cannot be taken apart: a call with num_returns=n has several results"
            )
        return self.num_returns


class ResultNode(DAGNode):
    """One of the results of a call that has several."""

    def __init__(self, call: CallNode, index: int) -> None:
        super().__init__((call,))
        self.call = call
        self.index = index

    @property
    def label(self) -> str:
        """The node in a few words."""
        return f"{self.call.label}[{self.index}]"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return args[0][self.index]


class FunctionNode(CallNode):
    """A task: `f.bind(...)`."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(args, kwargs)
        self._function = function

    def options(self, **changes: Any) -> FunctionNode:
        """Return this node with other options of the task."""
        return FunctionNode(self._function.options(**changes), self._args, self._kwargs)

    @property
    def num_returns(self) -> int:
        """How many results it has."""
        return int(self._function._num_returns)

    @property
    def label(self) -> str:
        """The node in a few words."""
        return str(getattr(self._function, "__name__", self._function))

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return self._function.remote(*args, **kwargs)


class ClassNode(DAGNode):
    """An actor that each execution creates anew: `A.bind(...)`; its methods are bound like a handle's.

    Each method bound to it comes after those that were bound before: they run, whether or not anything takes
    their results, as they are what has made the actor what it is by then.
    """

    def __init__(
        self,
        actor_class: Any,
        name: str,
        methods: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__(args, kwargs)
        self._actor_class = actor_class
        self._name = name
        #: what the class says of each method: its parameters and options
        self._methods = methods
        self._last_call: ClassMethodNode | None = None

    def __getattr__(self, name: str) -> _UnboundMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return _UnboundMethod(self, name, {})

    def options(self, **changes: Any) -> ClassNode:
        """Return this node with other options of the actor."""
        changed = self._actor_class.options(**changes)
        return ClassNode(changed, self._name, self._methods, self._args, self._kwargs)

    @property
    def label(self) -> str:
        """The node in a few words."""
        return f"{self._name}()"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return self._actor_class.remote(*args, **kwargs)


class _UnboundMethod:
    """A method of an actor that is not there yet."""

    def __init__(self, actor: ClassNode, name: str, options: dict[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def options(self, **changes: Any) -> _UnboundMethod:
        """Return this method with other options."""
        return _UnboundMethod(self._actor, self._name, {**self._options, **changes})

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Make a call of this method a node.

        Raises:
            TypeError: the method does not take these arguments.
        """
        actor = self._actor
        spec = actor._methods.get(self._name)
        if spec is not None and spec.shape is not None:
            spec.shape.check(args, kwargs)
        options = {**(spec.options if spec is not None else {}), **self._options}

        def call(handle: Any) -> Any:
            method = getattr(handle, self._name)
            return method.options(**self._options) if self._options else method

        node = ClassMethodNode(actor, self._name, call, options, args, kwargs, after=actor._last_call)
        actor._last_call = node
        return node


class ClassMethodNode(CallNode):
    """A call of an actor's method: `handle.method.bind(...)`."""

    def __init__(
        self,
        actor: Any,
        method: str,
        call: Callable[[Any], Any],
        options: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        after: ClassMethodNode | None = None,
    ) -> None:
        super().__init__(args, kwargs)
        #: an actor's handle, or the ClassNode that will make it
        self.actor = actor
        self.method = method
        #: from the actor's handle to its method with the options of this call
        self.call = call
        self._options = dict(options)
        #: the call of the same new actor that was bound before this one
        self._after = after

    @property
    def upstream(self) -> list[DAGNode]:
        """The nodes it needs: those among its arguments, the actor's, and the actor's call before."""
        before: list[DAGNode] = [self.actor] if isinstance(self.actor, ClassNode) else []
        if self._after is not None:
            before.append(self._after)
        return [*before, *super().upstream]

    @property
    def num_returns(self) -> int:
        """How many results it has; a negative number for those of a generator."""
        number = self._options.get("num_returns", 1)
        return number if isinstance(number, int) else 1

    @property
    def label(self) -> str:
        """The node in a few words."""
        if isinstance(self.actor, ClassNode):
            return f"{self.actor._name}.{self.method}"
        return f"{self.actor._orchestrator_description.traits.class_name}.{self.method}"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        handle = results[self.actor] if isinstance(self.actor, ClassNode) else self.actor
        return self.call(handle).remote(*args, **kwargs)


class MultiOutputNode(DAGNode):
    """Several results of one graph: `MultiOutputNode([a, b]).execute(x)` returns a list."""

    def __init__(self, nodes: Iterable[DAGNode]) -> None:
        given = list(nodes)
        for node in given:
            if not isinstance(node, DAGNode):
                raise TypeError(f"MultiOutputNode takes nodes of a graph, not {type(node).__name__}")
        super().__init__(given)

    @property
    def label(self) -> str:
        """The node in a few words."""
        return "output"

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], given: GraphInput, results: dict[DAGNode, Any]
    ) -> Any:
        return list(args)


class GraphInput:
    """The arguments of one execution."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._args = args
        self._kwargs = kwargs

    @classmethod
    def of(cls, order: list[DAGNode], args: tuple[Any, ...], kwargs: dict[str, Any]) -> GraphInput:
        """Check that the graph takes what it is given.

        Raises:
            ValueError: it does not.
        """
        inputs = [node for node in order if isinstance(node, InputNode)]
        if len(inputs) > 1:
            raise ValueError("a graph has one InputNode; this one has several")
        if inputs and not args and not kwargs:
            raise ValueError("the graph has an InputNode: execute() needs its argument")
        if (args or kwargs) and not inputs:
            raise ValueError("execute() was given arguments, and the graph has no InputNode to take them")
        return cls(args, kwargs)

    def whole(self) -> Any:
        """Return the single argument.

        Raises:
            ValueError: there are several.
        """
        if len(self._args) != 1 or self._kwargs:
            raise ValueError(
                "execute() was given several arguments: the graph takes them one by one, as input[0] or "
                "input.name, and not the InputNode itself"
            )
        return self._args[0]

    def part(self, node: InputAttributeNode) -> Any:
        """Return what an InputAttributeNode stands for.

        Raises:
            ValueError: there is no such argument.
        """
        key = node.key
        if len(self._args) == 1 and not self._kwargs:
            value = self._args[0]
            if not node.is_attribute:
                return value[key]
            return value[key] if isinstance(value, dict) and key in value else getattr(value, str(key))
        if isinstance(key, int):
            if not -len(self._args) <= key < len(self._args):
                raise ValueError(
                    f"execute() was given {len(self._args)} arguments, the graph takes {node.label}"
                )
            return self._args[key]
        if key not in self._kwargs:
            raise ValueError(f"execute() was given no {key!r}, the graph takes {node.label}")
        return self._kwargs[key]


def ordered(last: DAGNode) -> list[DAGNode]:
    """Return the nodes a node depends on and itself, each once, each after those it depends on."""
    order: list[DAGNode] = []
    state: dict[DAGNode, int] = {}
    stack: list[tuple[DAGNode, bool]] = [(last, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
            continue
        if node in state:
            continue
        state[node] = 1
        stack.append((node, True))
        stack.extend((before, False) for before in reversed(node.upstream) if before not in state)
    return order


def _nodes_in(value: Any) -> Iterable[DAGNode]:
    if isinstance(value, DAGNode):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from _nodes_in(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _nodes_in(item)


def _replace(value: Any, results: dict[DAGNode, Any]) -> Any:
    """Return the value with the results of nodes in the nodes' places."""
    if isinstance(value, DAGNode):
        result = results[value]
        return result.whole() if isinstance(result, GraphInput) else result
    if type(value) is list:
        return [_replace(item, results) for item in value]
    if type(value) is tuple:
        return tuple(_replace(item, results) for item in value)
    if type(value) is dict:
        return {key: _replace(item, results) for key, item in value.items()}
    return value
