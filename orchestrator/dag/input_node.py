"""The input of a graph: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.nodes import InputAttributeNode, InputNode

__all__ = ["InputAttributeNode", "InputNode"]
