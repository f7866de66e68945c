"""A node of a graph: the name that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.nodes import DAGNode

__all__ = ["DAGNode"]
