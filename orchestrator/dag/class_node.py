"""Actors and their methods as nodes of a graph: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.nodes import ClassMethodNode, ClassNode

__all__ = ["ClassMethodNode", "ClassNode"]
