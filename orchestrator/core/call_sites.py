"""Where references were made, when somebody wants that recorded: it costs some microseconds a reference.

Switched on by an environment variable that is looked at once, when a process joins its session.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.core.entry import Entry
from orchestrator.core.values import OWN_PACKAGES

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

#: Either one switches it on.
VARIABLES = ("ORCHESTRATOR_RECORD_CALL_SITES", "RAY_record_ref_creation_sites")


def is_wanted() -> bool:
    """Tell whether call sites are to be recorded."""
    return any(os.environ.get(name, "0") not in ("", "0", "false", "False") for name in VARIABLES)


def record_call_sites(runtime: Runtime) -> None:
    """Note for every reference that this process makes from now on which line made it."""
    sites: weakref.WeakKeyDictionary[Entry, str] = weakref.WeakKeyDictionary()

    def noting(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            result = make(*args)
            for item in result if isinstance(result, list) else [result]:
                entry = item if isinstance(item, Entry) else getattr(item, "_entry", None)
                if entry is not None:
                    sites[entry] = _caller()
            return result

        return made

    runtime.tasks.submit = noting(runtime.tasks.submit)  # type: ignore[method-assign]
    runtime.actors.submit = noting(runtime.actors.submit)  # type: ignore[method-assign]
    runtime.put = noting(runtime.put)  # type: ignore[method-assign]
    runtime.census.call_site_of = sites.get


def _caller() -> str:
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(OWN_PACKAGES):
        frame = frame.f_back
    if frame is None:
        return "?"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
