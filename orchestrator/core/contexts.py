"""The context of the code that runs in this process, for whatever it submits.

What is submitted is prepared once and reused (`RemoteFunction._prepare`), which takes the context into
account. When that changes, those who have prepared something are told to do so again.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from orchestrator.common.task_context import PLAIN_CONTEXT, TaskContext
from orchestrator.core.part import Part


class Prepared(Protocol):
    """Somebody who has prepared something for one context."""

    def forget_preparation(self) -> None: ...


class Contexts(Part):
    """Knows the context, and who relies on it."""

    def __init__(self) -> None:
        self.current: TaskContext = PLAIN_CONTEXT
        self._relying: weakref.WeakSet[Prepared] = weakref.WeakSet()

    def rely(self, who: Prepared) -> None:
        """Have somebody told when the context changes."""
        self._relying.add(who)

    def enter(self, context: TaskContext) -> None:
        """From now on, code of this context runs."""
        if context != self.current:
            self.current = context
            relying, self._relying = list(self._relying), weakref.WeakSet()
            for who in relying:
                who.forget_preparation()
