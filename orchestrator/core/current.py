"""Which runtime this process has, if any. Apart from the runtime, so that asking costs no import of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import exceptions

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class _Current:
    """The process's runtime. One attribute, so that whoever needs the runtime asks `current()`."""

    runtime: Runtime | None = None


def current() -> Runtime | None:
    """Return the runtime of the session this process takes part in, or None."""
    return _Current.runtime


def require() -> Runtime:
    """Return the runtime.

    Raises:
        SessionError: there is no session.
    """
    runtime = _Current.runtime
    if runtime is None:
        raise exceptions.SessionError("there is no session in this process: call init() first")
    return runtime


def install(runtime: Runtime | None) -> None:
    """Make this the process's runtime; None when the session is over."""
    _Current.runtime = runtime
