"""Calls of functions as nodes of a graph: the name that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.nodes import FunctionNode

__all__ = ["FunctionNode"]
