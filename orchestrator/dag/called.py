"""A compiled graph in a session of one process: its executions are plain calls, one after the other."""

from __future__ import annotations

from typing import Any

from orchestrator import exceptions
from orchestrator.core.entry import ERROR, PLAIN, Entry
from orchestrator.dag.compiled import CompiledDAG, CompiledDAGRef, Result
from orchestrator.dag.nodes import ClassMethodNode, DAGNode, GraphInput, InputAttributeNode, ResultNode
from orchestrator.dag.plan import fill, taken_apart


class CalledDAG(CompiledDAG):
    """Does what the graph with channels does. When `execute` returns, everything has run."""

    def _set_up(self) -> None:
        handles = self._plan.handles()
        self._runtime.get_many([handle.__ray_ready__.remote() for handle in handles], None)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph; see `CompiledDAG.execute`."""
        given = GraphInput.of(self._plan.order, args, kwargs)
        self._wait_for_room()
        values: dict[int, Any] = {}
        errors: dict[DAGNode, BaseException] = {}
        for node in self._plan.inputs:
            is_part = isinstance(node, InputAttributeNode)
            values[self._plan.slots[node]] = given.part(node) if is_part else given.whole()  # type: ignore[arg-type]
        for node in self._plan.calls:
            failed = [errors[before] for before in node.upstream if before in errors]
            try:
                if failed:
                    raise failed[0]
                values[self._plan.slots[node]] = self._call(node, values)
            except Exception as error:
                errors[node] = error
        number = self._next_number
        self._next_number += 1
        refs = []
        for node in self._plan.outputs:
            entry = Entry(0)
            if node in errors:
                entry.complete(ERROR, errors[node])
            else:
                entry.complete(PLAIN, Result(PLAIN, values[self._plan.slots[node]], None))
            refs.append(CompiledDAGRef(self, number, entry))
        self._untaken[number] = len(refs)
        return refs if self._plan.is_list else refs[0]

    def _call(self, node: ClassMethodNode | ResultNode, values: dict[int, Any]) -> Any:
        if isinstance(node, ResultNode):
            return values[self._plan.slots[node.call]][node.index]
        args = fill(self._plan.with_slots(node._args), values)
        kwargs = fill(self._plan.with_slots(node._kwargs), values)
        method = getattr(node.actor, node.method)
        several = node.num_returns > 1
        ref = (method.options(num_returns=1) if several else method).remote(*args, **kwargs)
        try:
            value = self._runtime.get_one(ref, None)
        except exceptions.ActorDiedError as error:
            self._fail(error)
            raise
        return taken_apart(value, node.num_returns) if several else value

    def teardown(self, kill_actors: bool = False) -> None:
        """Forget the graph; see `CompiledDAG.teardown`."""
        if self._is_torn_down or not self._runtime.open:
            return
        self._is_torn_down = True
        if kill_actors:
            for handle in self._plan.handles():
                self._runtime.actors.kill(handle._orchestrator_id, True)
