"""Actors: the names that a program imports from here."""

from __future__ import annotations

from orchestrator.api.actor_class import ActorOptions, method
from orchestrator.api.actor_handle import ActorHandle, ActorMethod
from orchestrator.api.context import exit_actor

__all__ = ["ActorHandle", "ActorMethod", "ActorOptions", "exit_actor", "method"]
