"""Results of compiled graphs: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.dag.compiled import CompiledDAGFuture, CompiledDAGRef

__all__ = ["CompiledDAGFuture", "CompiledDAGRef"]
