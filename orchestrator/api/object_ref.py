"""The references users hold; the class itself is the core's."""

from __future__ import annotations

from orchestrator.core.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from orchestrator.core.object_ref import ObjectRef

#: As programs of Ray's earlier days call it.
ObjectID = ObjectRef

__all__ = ["DynamicObjectRefGenerator", "ObjectID", "ObjectRef", "ObjectRefGenerator"]
