"""Waiting, where everything that can be done has been done already.

An entry that is PENDING here is being produced by another thread (an async or a threaded actor's, or
one of the user's), or by code that has to be run for it, which `advance` does first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import Entry, Waiter, open_gate
from orchestrator.core.part import Part
from orchestrator.core.values import raisable


class InlinePump(Part):
    """Waits for entries that other threads complete."""

    def __init__(self, advance: Callable[[Entry], None], explain: Callable[[Any], None]) -> None:
        self._advance = advance
        self._explain = explain
        self._gates: set[Any] = set()
        #: set once: ends every wait with this error
        self.fatal: BaseException | None = None
        #: what the shared code sets and reads; nothing of it happens here
        self.lock = threading.Lock()
        self.leads = 0
        self.lane_mask = 0
        self.tick: Callable[[], float] = lambda: config.TICK_S
        self.on_blocked: Callable[[], int] | None = None
        self.on_unblocked: Callable[[int], None] | None = None
        self.on_work: Callable[[], None] | None = None

    def poll(self) -> int:
        """Nothing arrives by itself; what is due is done."""
        self.tick()
        return 0

    def look(self, awaited: Entry) -> None:
        """Have the entry completed: nobody else will do so meanwhile, however often one looks."""
        self._advance(awaited)

    def wait(self, awaited: Entry | Waiter, deadline: float | None = None) -> bool:
        """Wait until `awaited.state` is nonzero; False if the deadline came first.

        Raises:
            SessionError: the session has ended meanwhile.
        """
        if awaited.state:
            return True
        if isinstance(awaited, Entry):
            self._advance(awaited)
        gate = threading.Lock()
        gate.acquire()
        opener = partial(_open_for, gate)
        if isinstance(awaited, Waiter):
            awaited.gate = gate
        else:
            awaited.when_done(opener)
        self._gates.add(gate)
        explain_at = monotonic() + config.UNPLACED_WARNING_S
        try:
            while not awaited.state:
                if self.fatal is not None:
                    raise raisable(self.fatal)
                timeout = config.TICK_S
                now = monotonic()
                if deadline is not None:
                    if now >= deadline:
                        return False
                    timeout = min(timeout, deadline - now)
                gate.acquire(timeout=timeout)
                if now > explain_at and not awaited.state:
                    explain_at = float("inf")
                    self._explain(awaited)
            return True
        finally:
            self._gates.discard(gate)
            if isinstance(awaited, Waiter):
                awaited.gate = None
            else:
                awaited.forget(opener)

    def end_all_waits(self, error: BaseException) -> None:
        """Make every present and future wait raise this error."""
        self.fatal = error
        for gate in list(self._gates):
            open_gate(gate)

    def start(self) -> None:
        """There is no background thread."""

    stop = close = start


def _open_for(gate: Any, _: Entry) -> None:
    open_gate(gate)
