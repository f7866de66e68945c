"""From the nodes of a graph to what each process does.

Every value that passes between nodes has a *slot*, a number. An actor's part is a list of operations in the
graph's order; each takes values out of slots, calls a method, and fills its own. An execution's values
travel with its number, and each actor runs the executions one after the other, its operations in order: what
plain calls would do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.dag.nodes import (
    ClassMethodNode,
    DAGNode,
    InputAttributeNode,
    InputNode,
    MultiOutputNode,
    ResultNode,
    ordered,
)


class Slot:
    """Stands in the arguments of an operation for a value that comes with each execution."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return (Slot, (self.number,))


class Operation(NamedTuple):
    """One call of a method, as its actor knows it; or one result taken out of several."""

    method: str
    #: how many results the method has
    num_returns: int
    #: which of them this takes, where it calls nothing
    part: int | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: slots whose values it takes
    needs: tuple[int, ...]
    #: the slot of its result
    out: int
    #: addresses of the other processes that take the result, and whether this actor does
    readers: tuple[int, ...]
    is_read_here: bool
    #: the slot of its only argument, in the simple case
    takes_only: int | None


class ActorPlan(NamedTuple):
    """What one actor does for each execution."""

    graph: str
    driver: int
    operations: tuple[Operation, ...]


class Plan:
    """The whole graph."""

    def __init__(self, last: DAGNode) -> None:
        """Read the graph.

        Raises:
            ValueError: it has a node that cannot be compiled; the text says which and why.
        """
        self.order = ordered(last)
        self.outputs: list[DAGNode] = (
            list(last._args) if isinstance(last, MultiOutputNode) else [last]  # type: ignore[arg-type]
        )
        self.is_list = isinstance(last, MultiOutputNode)
        #: nodes that run, in order
        self.calls: list[ClassMethodNode | ResultNode] = []
        #: the input and parts of it, as far as some call takes them
        self.inputs: list[DAGNode] = []
        for node in self.order:
            if node is last and self.is_list:
                continue
            if isinstance(node, ClassMethodNode):
                self._check_call(node)
                self.calls.append(node)
            elif isinstance(node, ResultNode) and isinstance(node.call, ClassMethodNode):
                self.calls.append(node)
            elif isinstance(node, (InputNode, InputAttributeNode)):
                self.inputs.append(node)
            else:
                raise ValueError(
                    f"{node.label} ({type(node).__name__}) cannot be part of a compiled graph, which takes "
                    "methods of actors made by .remote(), an InputNode, and a MultiOutputNode at the end"
                )
        for node in self.outputs:
            if not isinstance(node, (ClassMethodNode, ResultNode)):
                raise ValueError(f"the output of a compiled graph is an actor's, not the {node.label}")
        taken = {before for call in self.calls for before in call.upstream}
        self.inputs = [node for node in self.inputs if node in taken]
        self.slots = {node: number for number, node in enumerate(self.order)}

    @staticmethod
    def _check_call(node: ClassMethodNode) -> None:
        if not node.upstream:
            raise ValueError(
                f"{node.label} takes nothing from the graph: nothing would start it; bind the InputNode"
            )
        if node.num_returns < 1:
            raise ValueError(
                f"{node.label}: num_returns must be a number from 1 on in a compiled graph: a method there "
                "ends before the next one begins"
            )

    def handles(self) -> list[Any]:
        """Return the handles of the actors, each once."""
        return list({actor: actor for actor in map(actor_of, self.calls)})

    def readers_of(self, node: DAGNode, addresses: dict[Any, int]) -> list[int]:
        """Return the addresses of the actors that take a node's value, each once."""
        found = {addresses[actor_of(call)]: None for call in self.calls if node in call.upstream}
        return list(found)

    def part_of(self, handle: Any, graph: str, driver: int, addresses: dict[Any, int]) -> ActorPlan:
        """Return what one actor does."""
        here = addresses[handle]
        operations = []
        for node in self.calls:
            if actor_of(node) != handle:
                continue
            readers = self.readers_of(node, addresses)
            elsewhere = [address for address in readers if address != here]
            if node in self.outputs:
                elsewhere.append(driver)
            operations.append(
                Operation(
                    call_of(node).method,
                    call_of(node).num_returns,
                    node.index if isinstance(node, ResultNode) else None,
                    self.with_slots(node._args),
                    self.with_slots(node._kwargs),
                    tuple(dict.fromkeys(self.slots[before] for before in node.upstream)),
                    self.slots[node],
                    tuple(elsewhere),
                    here in readers,
                    self._only_argument(node),
                )
            )
        return ActorPlan(graph, driver, tuple(operations))

    def _only_argument(self, node: DAGNode) -> int | None:
        if node._kwargs or len(node._args) != 1 or not isinstance(node._args[0], DAGNode):
            return None
        return self.slots[node._args[0]]

    def with_slots(self, value: Any) -> Any:
        """Return arguments with slots in the places of nodes."""
        if isinstance(value, DAGNode):
            return Slot(self.slots[value])
        if type(value) is list:
            return [self.with_slots(item) for item in value]
        if type(value) is tuple:
            return tuple(self.with_slots(item) for item in value)
        if type(value) is dict:
            return {key: self.with_slots(item) for key, item in value.items()}
        return value


def call_of(node: DAGNode) -> ClassMethodNode:
    """Return the call that a node is, or is a result of."""
    call = node.call if isinstance(node, ResultNode) else node
    assert isinstance(call, ClassMethodNode)
    return call


def actor_of(node: DAGNode) -> Any:
    """Return the handle of the actor in which a call runs, and its results are taken apart."""
    return call_of(node).actor


def taken_apart(value: Any, count: int) -> list[Any]:
    """Return the results of a method that has several.

    Raises:
        ValueError: there are more, or fewer.
    """
    try:
        results = list(value)
    except TypeError:
        raise ValueError(
            f"num_returns={count} needs an iterable of {count} values, not {type(value).__name__}"
        ) from None
    if len(results) != count:
        raise ValueError(f"num_returns={count}, but the function returned {len(results)} values")
    return results


def fill(value: Any, values: dict[int, Any]) -> Any:
    """Return the arguments with the slots' values in their places."""
    kind = type(value)
    if kind is Slot:
        return values[value.number]
    if kind is list:
        return [fill(item, values) for item in value]
    if kind is tuple:
        return tuple([fill(item, values) for item in value])
    if kind is dict:
        return {key: fill(item, values) for key, item in value.items()}
    return value
