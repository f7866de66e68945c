"""`inspect_serializability`: which parts of a value cannot be pickled."""

from __future__ import annotations

from orchestrator.api.serializability import FailureTuple, inspect_serializability

__all__ = ["FailureTuple", "inspect_serializability"]
