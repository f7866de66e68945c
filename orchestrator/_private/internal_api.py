"""The module in which Ray has `free`."""

from __future__ import annotations

from orchestrator.api.objects import free

__all__ = ["free"]
