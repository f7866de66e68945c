"""What a worker does to be in its environment, before any code of the user's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.environments.resolved import Resolved, cached_of, expand


def variables_of(resolved: Resolved, before: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set in a process that has those of `before`."""
    variables = {}
    cached = cached_of(resolved)
    if cached is not None:
        # As if it had been activated, for the sake of what tasks start.
        path = os.path.join(cached.path, "bin") + os.pathsep + before.get("PATH", "")
        variables = {"VIRTUAL_ENV": cached.path, "PATH": path}
    return {**variables, **expand(resolved.get("env_vars") or {}, {**before, **variables})}


def apply(resolved: Resolved, info: dict[str, Any]) -> dict[str, Any]:
    """Set variables and import paths; return the session's facts as this worker is to know them."""
    os.environ.update(variables_of(resolved, os.environ))
    if "TZ" in (resolved.get("env_vars") or {}):
        time.tzset()
    return enter(resolved, info)


def enter(resolved: Resolved, info: dict[str, Any]) -> dict[str, Any]:
    """Set import paths, in a process that has its variables; return the session's facts for this worker."""
    changed = dict(info)
    places = list(resolved.get("py_modules") or ())
    if "working_dir" in resolved:
        changed["driver_cwd"] = resolved["working_dir"]
        places.insert(0, resolved["working_dir"])
    sys.path[:0] = places
    changed["setup_hook"] = resolved.get("hook")
    return changed
