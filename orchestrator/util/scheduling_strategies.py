"""Scheduling strategies, under the names that programs import from here."""

from __future__ import annotations

from orchestrator.common.strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
    SchedulingStrategy,
)

__all__ = ["NodeAffinitySchedulingStrategy", "PlacementGroupSchedulingStrategy", "SchedulingStrategy"]
