"""The module in which Ray has `as_completed` and `map_unordered`."""

from __future__ import annotations

from orchestrator.util.iteration import as_completed, map_unordered

__all__ = ["as_completed", "map_unordered"]
