"""Where the running code is: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.api.context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
