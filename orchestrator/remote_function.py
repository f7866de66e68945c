"""Remote functions: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.api.remote_function import RemoteFunction

__all__ = ["RemoteFunction"]
