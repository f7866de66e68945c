"""Graphs of calls, written down first and run later.

with InputNode() as x:
    graph = b.scale.bind(a.load.bind(x))

get(graph.execute(7))                    # two ordinary calls, b's waiting for a's
compiled = graph.experimental_compile()
compiled.execute(7).get()                # one message to a, one from a to b, one back

nodes.py         what `bind` makes; `execute`
plan.py          from the nodes of a compiled graph to what each process does
compiled.py      the side that starts executions and takes results
actor_loop.py    the side of the actors
values.py        values on their way between them
picture.py       the graph as text
"""

from __future__ import annotations

from orchestrator.dag.compiled import CompiledDAG, CompiledDAGFuture, CompiledDAGRef, DAGContext
from orchestrator.dag.nodes import (
    ClassMethodNode,
    ClassNode,
    DAGNode,
    FunctionNode,
    InputAttributeNode,
    InputNode,
    MultiOutputNode,
    ResultNode,
)

__all__ = [
    "ClassMethodNode",
    "ClassNode",
    "CompiledDAG",
    "CompiledDAGFuture",
    "CompiledDAGRef",
    "DAGContext",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
    "ResultNode",
]
