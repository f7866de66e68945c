"""Which call this code belongs to, in an actor that runs several at a time.

One attribute of the process tells it where one task runs after the other. Where calls overlap the answer
depends on the thread or the coroutine that asks, which is what a `ContextVar` is for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from orchestrator.core.runtime import Runtime

#: (submitter, seq) of the call, and its method.
_CALL: ContextVar[tuple[Any, Any]] = ContextVar("orchestrator_call", default=(None, None))

enter_call = _CALL.set
leave_call = _CALL.reset


def current_call() -> tuple[Any, Any]:
    """Return ((submitter, seq), method) of the call this code belongs to; Nones if it belongs to none."""
    return _CALL.get()


class ConcurrentRuntime(Runtime):
    """What the runtime of a process becomes when it hosts such an actor.

    Submitting reads `current_task` once per call; that stays a plain attribute everywhere else.
    """

    @property  # type: ignore[override]
    def current_task(self) -> Any:
        """The run of a task whose code asks."""
        return _CALL.get()[0]

    @current_task.setter
    def current_task(self, run: Any) -> None:
        """Ignored: calls enter and leave by themselves."""
