"""Compiled graphs: the name that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.compiled import CompiledDAG

__all__ = ["CompiledDAG"]
