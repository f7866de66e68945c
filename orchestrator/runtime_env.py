"""Where programs written for Ray look for `RuntimeEnv`."""

from __future__ import annotations

from orchestrator.common.runtime_env import RuntimeEnv as RuntimeEnv
from orchestrator.common.runtime_env import RuntimeEnvConfig as RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
