"""A graph as text: for people, or in the language of Graphviz."""

from __future__ import annotations

from orchestrator.dag.nodes import ClassMethodNode, DAGNode, ResultNode
from orchestrator.dag.plan import Plan, actor_of

_IN_ACTORS = (ClassMethodNode, ResultNode)


def draw(plan: Plan, format: str) -> str:
    """Return the picture.

    Raises:
        ValueError: there is no such format.
    """
    if format == "ascii":
        return _as_text(plan)
    if format in ("dot", "gv"):
        return _as_dot(plan)
    raise ValueError(f"format must be 'ascii' or 'dot', not {format!r}; `dot -Tpng` makes a picture of 'dot'")


def _as_text(plan: Plan) -> str:
    """One line for each node, in the order they run: what it is, what it takes, where it runs."""
    lines = []
    for node in plan.order:
        taken = ", ".join(str(plan.slots[before]) for before in node.upstream)
        where = f"  on {_actor(node)}" if isinstance(node, _IN_ACTORS) else ""
        arrow = f"  <- {taken}" if taken else ""
        lines.append(f"{plan.slots[node]}: {node.label}{arrow}{where}")
    return "\n".join(lines) + "\n"


def _as_dot(plan: Plan) -> str:
    lines = ["digraph compiled_graph {", "  rankdir=LR;"]
    for node in plan.order:
        label = node.label + (f"\\n{_actor(node)}" if isinstance(node, _IN_ACTORS) else "")
        text = label.replace('"', r"\"")
        lines.append(f'  n{plan.slots[node]} [label="{text}"];')
    for node in plan.order:
        lines += [f"  n{plan.slots[before]} -> n{plan.slots[node]};" for before in node.upstream]
    return "\n".join([*lines, "}"]) + "\n"


def _actor(node: DAGNode) -> str:
    handle = actor_of(node)
    return f"{handle._orchestrator_description.traits.class_name} {handle._orchestrator_id.hex()[:8]}"
