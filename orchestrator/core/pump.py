"""Reading the messages that arrive for this process: one reader at a time, and whose turn it is.

A thread that waits for a result would lose two thread switches if another thread read its
messages. So whoever waits reads: it becomes the *leader* (holds `lock`), reads until what it
wants has come, and hands the lead over. Threads that find the lead taken are *followers* and
sleep on a lock of their own until their result has come or the lead is free. When nobody waits,
a background thread reads; it is not even woken while a leader waits, as the endpoint wakes
foreground waiters first.

Interrupts. Ctrl-C can raise in the main thread between any two bytecodes, so messages move from
the channel into `inbox` inside one C call, and leave it only after they have been handled; handling
a message twice must be harmless. That makes every interruption safe to continue from. The lead itself is
taken in the step of a `for` loop over `_attempts`, after which the interpreter lets no interrupt in
before the `try` has begun; a call would leave a gap in which the lead is taken and nobody's.

A thread that leads may be called back while it handles a message (a destructor, a handler of signals) and
wait again, in `_lead_again`: nobody else could read for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice, repeat
from threading import get_ident
from typing import Any, Protocol

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import Entry, Waiter, open_gate
from orchestrator.core.part import Part
from orchestrator.core.values import raisable
from orchestrator.objects.plasma_adapter import CONTROL, CONTROL_MASK, Endpoint, PlasmaError

#: Messages moved out of the channels at once. Bounds what waits in `inbox` while others fill the rings.
BATCH = 256

#: Messages that may be moved in front of one that is put off. More than all rings of a machine hold.
DEFER_MAX = 1 << 20


class Awaited(Protocol):
    """Something that is over when `state` is nonzero."""

    @property
    def state(self) -> int: ...


class Pump(Part):
    """Reads CONTROL messages and hands each to `handle(sender_address, payload)`."""

    def __init__(self, endpoint: Endpoint, handle: Callable[[int, bytes], None]) -> None:
        self._endpoint = endpoint
        self._handle = handle
        self._receive = partial(endpoint.receive, CONTROL)
        self._inbox: deque[tuple[int, bytes]] = deque()
        #: held by the thread that reads
        self.lock = threading.Lock()
        #: each step tries once to take `lock` and says whether it did
        self._attempts = map(self.lock.acquire, repeat(False))
        #: the thread that holds `lock`; 0 when it is free
        self._leader = 0
        #: gates of the threads that wait while another one reads
        self._followers: deque[Any] = deque()
        #: number of times a thread took the lead: tells the background thread whether somebody reads
        self.leads = 0
        #: set once: ends every wait with this error
        self.fatal: BaseException | None = None
        #: called after each batch and at least every `tick()` seconds; returns the seconds until
        #: it wants to be called again
        self.tick: Callable[[], float] = lambda: config.TICK_S
        #: called in a thread that has waited for BLOCKED_AFTER_S, and when its wait is over
        self.on_blocked: Callable[[Entry | Waiter, float | None], int] | None = None
        #: called with what `on_blocked` returned, unless that was 0
        self.on_unblocked: Callable[[int], None] | None = None
        #: lanes a leader wakes for; a worker whose task waits adds WORK, to send tasks back
        self.lane_mask = CONTROL_MASK
        #: called by a leader that was woken while `lane_mask` has WORK
        self.on_work: Callable[[], None] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    # -- reading

    def drain(self) -> int:
        """Handle the messages that are here. The caller holds `lock`. Returns how many there were."""
        inbox = self._inbox
        handle = self._handle
        handled = 0
        while True:
            inbox.extend(islice(iter(self._receive, None), BATCH))
            if not inbox:
                return handled
            while inbox:
                sender, payload = inbox[0]
                handle(sender, payload)
                inbox.popleft()
                handled += 1

    def later(self, sender: int, payload: bytes) -> None:
        """Handle this message after all that have arrived by now, from whomever. Called by `handle` only."""
        self._inbox.extend(islice(iter(self._receive, None), DEFER_MAX))
        self._inbox.append((sender, payload))

    def poll(self) -> int:
        """Handle the messages that are here, unless another thread is at it."""
        for leads in self._attempts:
            try:
                if leads:
                    self._leader = get_ident()
                    return self.drain()
                break
            finally:
                if leads:
                    self._leader = 0
                    self.lock.release()
                    if self._followers:
                        self._hand_over()
        return 0

    def look(self, awaited: Entry) -> None:
        """Handle what has arrived, as somebody asks whether this entry is complete."""
        self.poll()

    # -- waiting

    def wait(self, awaited: Entry | Waiter, deadline: float | None = None) -> bool:
        """Wait until `awaited.state` is nonzero; False if the deadline came first.

        Raises:
            NodeDiedError: the session is over; nothing will arrive any more.
        """
        if self.on_blocked is None:
            return self._wait(awaited, deadline)
        soon = monotonic() + config.BLOCKED_AFTER_S
        if deadline is not None and deadline <= soon:
            return self._wait(awaited, deadline)
        if self._wait(awaited, soon):
            return True
        blocked = self.on_blocked(awaited, deadline)
        try:
            return self._wait(awaited, deadline)
        finally:
            if blocked and self.on_unblocked is not None:
                self.on_unblocked(blocked)

    def _wait(self, awaited: Entry | Waiter, deadline: float | None) -> bool:
        while not awaited.state:
            if self.fatal is not None:
                raise raisable(self.fatal)
            done = True
            for leads in self._attempts:
                try:
                    if leads:
                        self._leader = get_ident()
                        self.leads += 1
                        done = self._lead(awaited, deadline)
                    elif self._leader == get_ident():
                        done = self._lead_again(awaited, deadline)
                    else:
                        done = self._follow(awaited, deadline)
                    break
                finally:
                    if leads:
                        # No call before the release: an interrupt would come in with it.
                        self._leader = 0
                        self.lock.release()
                        if self._followers:
                            self._hand_over()
            if not done:
                return bool(awaited.state)
        return True

    def _lead(self, awaited: Entry | Waiter, deadline: float | None) -> bool:
        endpoint = self._endpoint
        drain = self.drain
        while True:
            if self.fatal is not None:
                raise raisable(self.fatal)
            bell = endpoint.bell()
            drain()
            if self.lane_mask != CONTROL_MASK and self.on_work is not None:
                self.on_work()
            if awaited.state:
                return True
            if self.fatal is not None:
                raise raisable(self.fatal)
            timeout = self.tick()
            if awaited.state:
                return True
            if deadline is not None:
                left = deadline - monotonic()
                if left <= 0.0:
                    return False
                if left < timeout:
                    timeout = left
            endpoint.wait(self.lane_mask, timeout, bell)

    def _lead_again(self, awaited: Entry | Waiter, deadline: float | None) -> bool:
        """Wait in a thread that leads already, and is inside the handling of the inbox's first message."""
        inbox = self._inbox
        under_way = inbox.popleft() if inbox else None
        try:
            return self._lead(awaited, deadline)
        finally:
            if under_way is not None:
                inbox.appendleft(under_way)

    def _follow(self, awaited: Entry | Waiter, deadline: float | None) -> bool:
        """Sleep until the wait is over or the lead is free. False when the deadline has passed."""
        gate = threading.Lock()
        gate.acquire()
        entry: Entry | None = None
        if isinstance(awaited, Waiter):
            awaited.gate = gate
        else:
            entry = awaited
        opener = partial(_open_for, gate)
        self._followers.append(gate)
        if entry is not None:
            entry.when_done(opener)
        try:
            # The lead may have become free before this thread was on the list.
            if awaited.state or not self.lock.locked():
                return True
            timeout = config.TICK_S
            if deadline is not None:
                left = deadline - monotonic()
                if left <= 0.0:
                    return False
                timeout = min(timeout, left)
            gate.acquire(timeout=timeout)
            return True
        finally:
            if entry is not None:
                entry.forget(opener)
            else:
                awaited.gate = None  # type: ignore[union-attr]
            try:
                self._followers.remove(gate)
            except ValueError:
                pass

    def _hand_over(self) -> None:
        try:
            open_gate(self._followers[0])
            self._followers.rotate(-1)
        except IndexError:
            pass

    def end_all_waits(self, error: BaseException) -> None:
        """Make every present and future wait raise this error."""
        self.fatal = error
        for gate in list(self._followers):
            open_gate(gate)
        self._endpoint.ring()

    def wake(self) -> None:
        """Have whoever reads look whether its wait is over: something else than a message has ended it."""
        self._endpoint.ring()

    # -- the background thread

    def start(self) -> None:
        """Start the thread that reads when nobody waits."""
        self._thread = threading.Thread(target=self._run, name="orchestrator-pump", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the background thread."""
        self._closed = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._endpoint.ring()
            thread.join(2 * config.TICK_S)
        self._thread = None

    def close(self) -> None:
        """End the background thread, and let go of the store."""
        self.stop()
        # Threads that were waiting may not have left yet. They find `fatal` set, or these gone.
        del self._endpoint, self._receive, self._handle
        self.tick, self.on_blocked, self.on_unblocked, self.on_work = _never, None, None, None

    def _run(self) -> None:
        try:
            self._read_in_background()
        except (exceptions.SessionError, PlasmaError):
            if self.fatal is None:
                raise  # else the session has ended under it

    def _read_in_background(self) -> None:
        endpoint = self._endpoint
        leads = self.leads
        timeout = config.TICK_S
        rest = config.COLLECT_S
        while not self._closed:
            bell = endpoint.bell()
            woken = endpoint.wait_background(timeout, bell)
            if self._closed:
                return
            if woken and leads != self.leads:
                # Somebody was reading a moment ago and most likely is about to again: keep out of the way.
                leads = self.leads
                time.sleep(rest)
                rest = min(2 * rest, config.COLLECT_MAX_S)
            else:
                rest = config.COLLECT_S
            due = self._background_turn()
            if due is None:
                time.sleep(config.COLLECT_S)
                timeout = config.TICK_S
                continue
            timeout = due
            # While traffic flows, collect rather than be woken for each message.
            quiet = 0
            while woken and quiet < 2 and not self._closed:
                time.sleep(config.COLLECT_S)
                if leads != self.leads:
                    break
                quiet = 0 if self.poll() else quiet + 1

    def _background_turn(self) -> float | None:
        """Read and tick once, as the background thread; None if another thread has the lead."""
        if not self.lock.acquire(False):
            return None
        try:
            self._leader = get_ident()
            self.drain()
            return self.tick()
        finally:
            self._leader = 0
            self.lock.release()
            if self._followers:
                self._hand_over()


def _never() -> float:
    return config.TICK_S


def _open_for(gate: Any, _: Entry) -> None:
    open_gate(gate)
