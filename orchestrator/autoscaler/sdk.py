"""What programs say to the autoscaler, where those written for Ray look for it."""

from __future__ import annotations

from orchestrator.util.scaling import request_resources as request_resources

__all__ = ["request_resources"]
