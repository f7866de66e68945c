"""Names that a program imports from Ray's package of this name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "get_local_object_locations": "orchestrator.api.objects",
    "get_object_locations": "orchestrator.api.objects",
}

__all__ = [*_PUBLIC]

if TYPE_CHECKING:
    from orchestrator.api.objects import get_local_object_locations as get_local_object_locations
    from orchestrator.api.objects import get_object_locations as get_object_locations


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
