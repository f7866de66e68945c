"""Where objects are: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.api.objects import get_local_object_locations, get_object_locations

__all__ = ["get_local_object_locations", "get_object_locations"]
