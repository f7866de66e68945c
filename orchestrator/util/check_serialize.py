"""The module in which Ray has `inspect_serializability`."""

from __future__ import annotations

from orchestrator.api.serializability import FailureTuple, inspect_serializability

__all__ = ["FailureTuple", "inspect_serializability"]
