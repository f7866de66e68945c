"""What a driver tells those who work for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any


def import_path() -> list[str]:
    """Return where the driver imports from; an empty entry is the current directory."""
    return [os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path]


def main_path() -> str | None:
    """Return the file of the driver's program; None where there is none."""
    return getattr(sys.modules.get("__main__"), "__file__", None)


def environment_of_session(runtime_env: Mapping[str, Any], info: dict[str, Any]) -> str:
    """Find and copy what the driver's environment names; return its key."""
    from orchestrator.common.runtime_env import RuntimeEnv
    from orchestrator.core.environment_scope import EnvironmentScope

    return EnvironmentScope(info).key_for(RuntimeEnv.of(runtime_env))
