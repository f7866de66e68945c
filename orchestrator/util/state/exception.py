"""The errors of the state API, under the names that programs import from here."""

from __future__ import annotations

from orchestrator.util.state.records import RayStateApiException, StateApiError

#: There is no server here: who does not answer in time is a process.
ServerUnavailable = StateApiError

__all__ = ["RayStateApiException", "ServerUnavailable", "StateApiError"]
