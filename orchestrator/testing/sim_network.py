"""A network that delays, loses, repeats and reorders, that is cut and heals, between processes that die.

Two ways to speak. A *message* is on its own: it may be lost, come twice, or overtake another. A *connection*
is like TCP: in order and once, or broken; what is under way when it breaks may or may not have arrived.
Whoever is cut off notices after `keepalive_s`, not at once.

All chance comes from one generator, all time from one clock: the same seed is the same run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from orchestrator.testing.sim_clock import SimClock

#: How often TCP tries again what was not acknowledged.
RESEND_S = 0.2


class Faults(NamedTuple):
    """How bad the network is. Probabilities are per message, times in seconds."""

    loss: float = 0.0
    repetition: float = 0.0
    delay_least_s: float = 0.0005
    delay_most_s: float = 0.005
    #: Of messages that take much longer than others, and so are overtaken.
    stray: float = 0.0
    stray_most_s: float = 2.0
    keepalive_s: float = 10.0


class Host(Protocol):
    """A process that can be reached by its name."""

    def on_message(self, source: str, message: Any) -> None:
        """A message has come."""

    def on_connection(self, end: ConnectionEnd) -> None:
        """Somebody has connected; callbacks of the end are to be set now."""


class ConnectionEnd:
    """One end of a connection."""

    __slots__ = (
        "_arrives_s",
        "_network",
        "_stalled",
        "generation",
        "is_open",
        "name",
        "on_closed",
        "on_message",
        "other",
        "peer",
    )

    def __init__(self, network: SimNetwork, name: str, peer: str, generation: int) -> None:
        self._network = network
        self.name = name
        self.peer = peer
        #: Of the process at this end: what a process did before it died is not heard by the next one.
        self.generation = generation
        self.is_open = True
        self.other: ConnectionEnd = self
        self.on_message: Callable[[Any], None] = lambda message: None
        self.on_closed: Callable[[], None] = lambda: None
        #: When what was sent last arrives: nothing overtakes it.
        self._arrives_s = 0.0
        #: What has come as far as the cut.
        self._stalled: deque[Any] = deque()

    def send(self, message: Any) -> None:
        """Send something, if the connection stands."""
        if self.is_open:
            self._network._send_on(self, message)

    def close(self) -> None:
        """Close; the other end hears of it, unless it is cut off."""
        if self.is_open:
            self.is_open = False
            self._network._ends.pop(self, None)
            self._network._tell_closed(self.other)


class SimNetwork:
    """Hosts by name, and what is between them."""

    def __init__(self, clock: SimClock, rng: random.Random, faults: Faults) -> None:
        self._clock = clock
        self._rng = rng
        self.faults = faults
        self._hosts: dict[str, Host] = {}
        self._generations: dict[str, int] = {}
        #: Pairs (source, target) between which nothing passes.
        self._cut: set[tuple[str, str]] = set()
        self._ends: dict[ConnectionEnd, None] = {}

    # ------------------------------------------------------------ hosts

    def start(self, name: str, host: Host) -> None:
        """A process begins under this name."""
        assert name not in self._hosts, name
        self._hosts[name] = host
        self._generations[name] = self._generations.get(name, 0) + 1

    def kill(self, name: str) -> None:
        """A process ends at once: it hears nothing more, and its peers hear that connections broke."""
        del self._hosts[name]
        self._generations[name] += 1
        for end in [end for end in self._ends if end.name == name]:
            end.is_open = False
            self._ends.pop(end)
            self._tell_closed(end.other)

    def is_up(self, name: str) -> bool:
        """Tell whether there is a process of this name."""
        return name in self._hosts

    def refuses(self, source: str, target: str) -> bool:
        """Tell whether a machine that can be reached says that there is no process of this name."""
        is_cut = (source, target) in self._cut or (target, source) in self._cut
        return not is_cut and target not in self._hosts

    # ------------------------------------------------------------ the wire

    def cut(self, one: str, other: str, *, both_ways: bool = True) -> None:
        """Let nothing pass from one to the other."""
        self._cut.add((one, other))
        if both_ways:
            self._cut.add((other, one))
        for end in [end for end in self._ends if (end.name, end.peer) in ((one, other), (other, one))]:
            self._clock.after(self.faults.keepalive_s, lambda end=end: self._notice(end))  # type: ignore[misc]

    def heal(self) -> None:
        """Let everything pass."""
        self._cut.clear()

    def _notice(self, end: ConnectionEnd) -> None:
        """Keep-alive: an end that still cannot reach the other gives up."""
        if end.is_open and ((end.name, end.peer) in self._cut or (end.peer, end.name) in self._cut):
            self._break(end)
            self._break(end.other)

    def _break(self, end: ConnectionEnd) -> None:
        self._ends.pop(end, None)
        if end.is_open:
            end.is_open = False
            if self._lives(end):
                end.on_closed()

    def _lives(self, end: ConnectionEnd) -> bool:
        return end.name in self._hosts and self._generations[end.name] == end.generation

    def _delay_s(self) -> float:
        faults, rng = self.faults, self._rng
        if faults.stray and rng.random() < faults.stray:
            return rng.uniform(faults.delay_most_s, faults.stray_most_s)
        return rng.uniform(faults.delay_least_s, faults.delay_most_s)

    # ------------------------------------------------------------ messages

    def send(self, source: str, target: str, message: Any) -> None:
        """Send a message on its own."""
        faults = self.faults
        if (source, target) in self._cut or (faults.loss and self._rng.random() < faults.loss):
            return
        copies = 2 if faults.repetition and self._rng.random() < faults.repetition else 1
        for _ in range(copies):
            self._clock.after(self._delay_s(), lambda: self._deliver(source, target, message))

    def _deliver(self, source: str, target: str, message: Any) -> None:
        host = self._hosts.get(target)
        if host is not None and (source, target) not in self._cut:
            host.on_message(source, message)

    # ------------------------------------------------------------ connections

    def connect(self, source: str, target: str) -> ConnectionEnd | None:
        """Connect; None if there is nobody, or no way."""
        host = self._hosts.get(target)
        if host is None or (source, target) in self._cut or (target, source) in self._cut:
            return None
        mine = ConnectionEnd(self, source, target, self._generations[source])
        theirs = ConnectionEnd(self, target, source, self._generations[target])
        mine.other, theirs.other = theirs, mine
        self._ends[mine] = self._ends[theirs] = None
        host.on_connection(theirs)
        return mine

    def _send_on(self, end: ConnectionEnd, message: Any) -> None:
        arrives_s = max(end._arrives_s, self._clock.now_s + self._delay_s())
        end._arrives_s = arrives_s
        self._clock.after(arrives_s - self._clock.now_s, lambda: self._deliver_on(end.other, message))

    def _deliver_on(self, end: ConnectionEnd, message: Any) -> None:
        if not end.is_open or not self._lives(end):
            return
        if end._stalled or (end.peer, end.name) in self._cut:
            # Sent again until the cut heals or the connection breaks; all that is behind it waits, too.
            end._stalled.append(message)
            if len(end._stalled) == 1:
                self._clock.after(RESEND_S, lambda: self._resend(end))
            return
        end.on_message(message)

    def _resend(self, end: ConnectionEnd) -> None:
        if (end.peer, end.name) in self._cut:
            if end.is_open:
                self._clock.after(RESEND_S, lambda: self._resend(end))
            return
        while end._stalled and end.is_open and self._lives(end):
            end.on_message(end._stalled.popleft())
        end._stalled.clear()

    def _tell_closed(self, end: ConnectionEnd) -> None:
        if (end.peer, end.name) in self._cut:
            self._clock.after(self.faults.keepalive_s, lambda: self._break(end))
        else:
            arrives_s = max(end.other._arrives_s - self._clock.now_s, self._delay_s())
            self._clock.after(arrives_s, lambda: self._break(end))
