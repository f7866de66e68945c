"""Names for annotations."""

from __future__ import annotations

from orchestrator.api.object_ref import ObjectRef, ObjectRefGenerator

__all__ = ["ObjectRef", "ObjectRefGenerator"]
