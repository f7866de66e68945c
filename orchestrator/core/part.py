"""What the parts of a runtime have in common: they end with the session, whoever is using them then."""

from __future__ import annotations

from typing import Any

from orchestrator import exceptions


class Part:
    """Loses its attributes when the session ends; a thread that is in the middle of a call hears why."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise exceptions.SessionError("this session is over")
