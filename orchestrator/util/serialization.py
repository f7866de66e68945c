"""Serializers that a program brings for its own classes, under the names that it imports from here."""

from __future__ import annotations

from orchestrator.api.serializers import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "register_serializer"]
