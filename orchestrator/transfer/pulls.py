"""What the pull manager knows of each pull: its state, its sources, its turn."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from orchestrator.common.priority import Priority

#: Objects up to this size go through the lane of their own. A gigabit link moves it in 8 ms.
SMALL_BYTES_MAX = 1 << 20
#: What is kept of a pull's story.
STORY_LINES_MAX = 20


class PullState(Enum):
    """See the table in `pull_manager.py`."""

    SIZING = "sizing"
    QUEUED = "queued"
    CREATING = "creating"
    STREAMING = "streaming"
    PAUSED = "paused"
    STOPPING = "stopping"
    SEALING = "sealing"


_S = PullState
#: States that have an attempt under way.
TRYING = frozenset({_S.SIZING, _S.STREAMING, _S.STOPPING})
#: States in which a pull can give its room to a more urgent one.
GIVES_WAY = frozenset({_S.QUEUED, _S.STREAMING, _S.PAUSED})
#: Where a pull may go from each state; None is its end.
TRANSITIONS: dict[PullState | None, frozenset[PullState | None]] = {
    None: frozenset({_S.QUEUED}),
    _S.QUEUED: frozenset({_S.SIZING, _S.CREATING, _S.STREAMING, _S.PAUSED, None}),
    _S.SIZING: frozenset({_S.QUEUED, _S.STOPPING, None}),
    _S.CREATING: frozenset({_S.QUEUED, _S.PAUSED, _S.SEALING, None}),
    _S.STREAMING: frozenset({_S.QUEUED, _S.STOPPING, _S.SEALING, None}),
    _S.PAUSED: frozenset({_S.QUEUED, None}),
    _S.STOPPING: frozenset({_S.QUEUED, _S.SEALING, None}),
    _S.SEALING: frozenset({None}),
}


@dataclass(slots=True)
class Source:
    """A node that has the object, or is receiving it."""

    node: int
    #: in a row; a new byte makes it 0
    failures: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True)
class Pull:
    """One object on its way here."""

    object_id: bytes
    priority: Priority
    #: position in the turns: arrival plus patience
    due_s: float
    size_bytes: int | None
    state: PullState | None = None
    #: those not struck off, the best first
    sources: list[Source] = field(default_factory=list)
    #: number of the attempt under way, and whom it asks; both None otherwise
    attempt: int | None = None
    source: int | None = None
    #: bytes in the buffer, from its start
    received_bytes: int = 0
    has_buffer: bool = False
    #: counts in the sums of `PullManager` while it has a buffer or has asked for one
    has_room: bool = False
    #: false: it was cancelled, and goes when nobody writes into its buffer any more
    wanted: bool = True
    #: how often it began anew because a source had another object than the one before
    restarts: int = 0
    #: true: its room is for somebody more urgent; it gives back the buffer and queues
    yields: bool = False
    #: when a PAUSED one goes on
    resume_at_s: float = 0.0
    #: when a full store refused it for the first time; None: it did not
    full_since_s: float | None = None
    #: which entry of the lane, or of the pauses, is the valid one
    ticket: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """Which lane it is in. Only a question, as long as the size isn't known."""
        return self.size_bytes is None or self.size_bytes <= SMALL_BYTES_MAX

    def tell(self, line: str) -> None:
        """Note why something did not work."""
        if len(self.story) < STORY_LINES_MAX and line not in self.story:
            self.story.append(line)

    def validate(self) -> None:
        """Raise AssertionError if an invariant doesn't hold."""
        state = self.state
        assert (self.attempt is not None) == (state in TRYING), self
        assert (self.source is None) == (self.attempt is None), self
        assert not self.has_buffer or self.has_room, self
        assert self.has_room or state in (_S.SIZING, _S.QUEUED, _S.PAUSED, _S.STOPPING), self
        assert self.size_bytes is not None or not self.has_room, self
        assert self.received_bytes <= (self.size_bytes or 0), self
        assert not self.received_bytes or self.has_buffer, self
        assert self.wanted or state in (_S.STOPPING, _S.CREATING, _S.SEALING), self
        assert len({source.node for source in self.sources}) == len(self.sources), self


@dataclass(slots=True)
class Lane:
    """Pulls of one kind of size: who is waiting, and how much is under way."""

    slots_max: int
    bytes_max: int
    slots: int = 0
    room_bytes: int = 0
    #: (due, ticket, object id); entries whose ticket is not their pull's are void
    queue: list[tuple[float, int, bytes]] = field(default_factory=list)

    def push(self, pull: Pull) -> None:
        """Put a pull into the queue, under its ticket. Who has a buffer goes ahead of all who have none."""
        due_s = -math.inf if pull.has_buffer else pull.due_s
        heapq.heappush(self.queue, (due_s, pull.ticket, pull.object_id))

    def next(self, pulls: Mapping[bytes, Pull]) -> Pull | None:
        """Return who is first, and leave it there."""
        while self.queue:
            _, ticket, object_id = self.queue[0]
            pull = pulls.get(object_id)
            if pull is not None and pull.state is _S.QUEUED and pull.ticket == ticket:
                return pull
            heapq.heappop(self.queue)
        return None

    def fits(self, pull: Pull, free_bytes: float) -> bool:
        """Return whether there is room for a pull; for one that would be alone there always is."""
        if pull.has_room or pull.size_bytes is None or not self.room_bytes:
            return True
        return self.room_bytes + pull.size_bytes <= self.bytes_max and pull.size_bytes <= free_bytes

    def validate(self, pulls: list[Pull]) -> None:
        """Raise AssertionError if an invariant doesn't hold; `pulls` are those of this lane."""
        slots = sum(pull.state in TRYING or pull.state is _S.CREATING for pull in pulls)
        assert self.slots == slots <= self.slots_max, (self.slots, slots)
        room_bytes = sum(pull.size_bytes or 0 for pull in pulls if pull.has_room)
        assert self.room_bytes == room_bytes, (self.room_bytes, room_bytes)
        with_room = sum(pull.has_room and bool(pull.size_bytes) for pull in pulls)
        assert self.room_bytes <= self.bytes_max or with_room <= 1
        queued = {ticket for _, ticket, _ in self.queue}
        assert all(pull.ticket in queued for pull in pulls if pull.state is _S.QUEUED)


class InvalidTransition(Exception):
    """Our bug: a pull was to go from a state to one that cannot follow it."""
