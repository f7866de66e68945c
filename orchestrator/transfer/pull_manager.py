"""Brings wanted objects to this node: events in, instructions out.

How it works
============
A *pull* is one object on its way here, however many want it. It goes through these states:

=========  ==============================================================  ===================================
state      what it waits for                                               holds
=========  ==============================================================  ===================================
QUEUED     its turn: a slot, and room in the store if it has none          room and buffer, if it had them
SIZING     a source's answer, how large the object is                      a slot, an attempt
CREATING   the store's memory                                              a slot, room
STREAMING  the bytes                                                       a slot, room, buffer, an attempt
PAUSED     a moment at which trying again makes sense                      room and buffer, if it had them
STOPPING   an attempt that was told to end: until then its bytes move      a slot, an attempt, and what it had
SEALING    the store's word that all can see the object                    room, buffer
=========  ==============================================================  ===================================

and ends with `Pulled` or `Lost`, once for each pull, unless it was cancelled.

*Turns.* Each class of priority has a patience (`PATIENCE_S`), and whoever is due first, by arrival plus
patience, is next. So a waiting `get` goes before arguments and these before prefetches, and yet nobody waits
for ever.

*Admission.* Two lanes, so that a small object never waits for a large one: small ones have slots and a budget
of their own. In each lane strictly by turns: whoever is next and doesn't fit is waited for, as what is under
way ends soon. If nothing is under way it goes alone, whatever is said about room: the store can evict and
spill. A `get` that doesn't fit takes the room of less urgent pulls, which begin again later. Who has a buffer
already goes first: what is waited for is its end.

*Sources* are tried in the order they were given. One that breaks is left alone for a while, longer each time,
and the next one goes on at the byte where it broke; the two compare what has arrived so far (see `wire.py`),
so an object that was made a second time and came out different is not mixed with the first. One that doesn't
have the object, lies, or failed `FAILURES_MAX` times is struck off, and when none is left the pull is lost,
with the story of each.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from random import Random
from typing import Any

from orchestrator.common.priority import Priority
from orchestrator.transfer.events import (
    OBJECT_BYTES_MAX,
    Ask,
    AttemptEnded,
    BufferMade,
    BufferRefused,
    Cause,
    Complain,
    CreateBuffer,
    DropBuffer,
    End,
    Event,
    Instruction,
    Lost,
    NodeDied,
    Pulled,
    Refusal,
    RoomIs,
    Seal,
    Sealed,
    SealRefused,
    StopAttempt,
    Stream,
    Tick,
    Unwanted,
    Wanted,
)
from orchestrator.transfer.pulls import (
    GIVES_WAY,
    SMALL_BYTES_MAX,
    TRANSITIONS,
    TRYING,
    InvalidTransition,
    Lane,
    Pull,
    PullState,
    Source,
)

_S = PullState

#: How much later than at its arrival a pull of each class is due.
PATIENCE_S = {Priority.GET: 0.0, Priority.ARGUMENT: 5.0, Priority.PREFETCH: 30.0}
#: The first pause after a source failed; each further one is twice as long, up to the maximum, and each is
#: multiplied with a random number between 0.5 and 1.5, so that those who failed together don't return
#: together.
BACK_OFF_S = 0.2
BACK_OFF_S_MAX = 5.0
#: A source that fails so often in a row, without one new byte, is struck off: after about 15 s.
FAILURES_MAX = 8
#: Copies of one object are alike; that they are not happens once, when it was made a second time meanwhile.
RESTARTS_MAX = 4
#: A full store is tried again for this long: programs let go of objects all the time, but one that holds
#: everything for a minute will hold it for good.
ROOM_PATIENCE_S = 60.0


class PullManager:
    """See the module's text. `handle` is the only way in; the caller performs what it returns, in order."""

    def __init__(
        self, rng: Random, *, bytes_max: int, streams_max: int = 4, small_streams_max: int = 8
    ) -> None:
        """`bytes_max`: how much of the store may be under way at once; `*streams_max`: attempts at once."""
        self._rng = rng
        self._pulls: dict[bytes, Pull] = {}
        self._large = Lane(streams_max, bytes_max)
        self._small = Lane(small_streams_max, max(SMALL_BYTES_MAX, bytes_max // 16))
        #: (moment, ticket, object id), void as in the lanes
        self._pauses: list[tuple[float, int, bytes]] = []
        #: the store's word, less what was asked of it since; without its word only the limit counts
        self._free_bytes: float = math.inf
        self._tickets = 0
        self._attempts = 0
        self._now_s = 0.0
        self._out: list[Instruction] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Tick: lambda event: None,
            Wanted: self._wanted,
            Unwanted: self._unwanted,
            NodeDied: self._node_died,
            RoomIs: self._room_is,
            BufferMade: self._buffer_made,
            BufferRefused: self._buffer_refused,
            AttemptEnded: self._attempt_ended,
            Sealed: self._sealed,
            SealRefused: self._seal_refused,
        }

    def __len__(self) -> int:
        return len(self._pulls)

    @property
    def room_bytes(self) -> int:
        """Bytes of the store that pulls have, or have asked for."""
        return self._large.room_bytes + self._small.room_bytes

    # ------------------------------------------------------------ the way in

    def handle(self, event: Event, now_s: float) -> list[Instruction]:
        """Take one event into account and return what to do. Events that make no sense change nothing."""
        self._now_s = now_s
        out: list[Instruction] = []
        self._out = out
        self._handlers[type(event)](event)
        self._resume()
        self._admit(self._small)
        self._admit(self._large)
        return out

    def deadline_s(self) -> float | None:
        """Return when the next `Tick` is needed at the latest; None if only other events matter."""
        while self._pauses and not self._is_paused_by(self._pauses[0]):
            heapq.heappop(self._pauses)
        return self._pauses[0][0] if self._pauses else None

    # ------------------------------------------------------------ wants

    def _wanted(self, event: Wanted) -> None:
        pull = self._pulls.get(event.object_id)
        due_s = self._now_s + PATIENCE_S[event.priority]
        size_bytes = event.size_bytes
        if size_bytes is not None and not 0 <= size_bytes <= OBJECT_BYTES_MAX:
            self._out.append(Complain(f"{event.object_id.hex()} of {size_bytes} bytes is wanted: not a size"))
            size_bytes = None
        if pull is None:
            pull = Pull(event.object_id, event.priority, due_s, size_bytes)
            self._pulls[event.object_id] = pull
            self._add_sources(pull, event.sources)
            self._go_on(pull)
            return
        pull.wanted = True
        self._add_sources(pull, event.sources)
        pull.priority = min(pull.priority, event.priority)
        if due_s < pull.due_s:
            pull.due_s = due_s
            if pull.state is _S.QUEUED:
                self._enqueue(pull)
        if pull.state is _S.PAUSED:
            self._go_on(pull)

    def _add_sources(self, pull: Pull, nodes: tuple[int, ...]) -> None:
        # The newest word about the order counts.
        known = {source.node: source for source in pull.sources}
        fresh = [known.pop(node, Source(node)) for node in dict.fromkeys(nodes)]
        pull.sources = [*fresh, *known.values()]

    def _unwanted(self, event: Unwanted) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None:
            return
        pull.wanted = False
        if pull.state in (_S.SIZING, _S.STREAMING):
            self._stop(pull)
        elif pull.state in (_S.QUEUED, _S.PAUSED):
            self._end(pull)
        # CREATING, STOPPING: when that is answered. SEALING: it is here, and stays.

    def _node_died(self, event: NodeDied) -> None:
        for pull in list(self._pulls.values()):
            if not any(source.node == event.node for source in pull.sources):
                continue
            self._strike_off(pull, event.node, f"node {event.node} died")
            if pull.source == event.node and pull.state is not _S.STOPPING:
                self._stop(pull)
            elif pull.state in (_S.PAUSED, _S.QUEUED) and not pull.sources:
                self._lose(pull, Cause.NO_SOURCE)

    def _strike_off(self, pull: Pull, node: int | None, why: str) -> None:
        pull.sources = [source for source in pull.sources if source.node != node]
        pull.tell(why)

    # ------------------------------------------------------------ what goes on next

    def _go_on(self, pull: Pull) -> None:
        """Decide what a pull that has nothing under way does next."""
        if not pull.wanted:
            self._end(pull)
        elif pull.has_buffer and pull.received_bytes == pull.size_bytes:
            self._to(pull, _S.SEALING)
            self._out.append(Seal(pull.object_id))
        elif not pull.sources:
            self._lose(pull, Cause.NO_SOURCE)
        else:
            self._to(pull, _S.QUEUED)
            self._enqueue(pull)

    def _start(self, pull: Pull) -> None:
        """Its turn has come: turn to the best source that is not left alone now; pause if all are."""
        source = next((source for source in pull.sources if source.not_before_s <= self._now_s), None)
        if source is None:
            self._pause(pull, min(source.not_before_s for source in pull.sources))
            return
        if pull.size_bytes is not None and not pull.has_buffer:
            self._to(pull, _S.CREATING)
            self._take_room(pull)
            self._out.append(CreateBuffer(pull.object_id, pull.size_bytes))
            return
        self._attempts += 1
        if pull.size_bytes is None:
            self._to(pull, _S.SIZING)
            self._out.append(Ask(pull.object_id, self._attempts, source.node))
        else:
            self._to(pull, _S.STREAMING)
            self._out.append(
                Stream(pull.object_id, self._attempts, source.node, pull.received_bytes, pull.size_bytes)
            )
        pull.attempt, pull.source = self._attempts, source.node

    def _pause(self, pull: Pull, until_s: float) -> None:
        self._to(pull, _S.PAUSED)
        pull.resume_at_s = until_s
        self._tickets += 1
        pull.ticket = self._tickets
        heapq.heappush(self._pauses, (until_s, pull.ticket, pull.object_id))

    def _is_paused_by(self, entry: tuple[float, int, bytes]) -> bool:
        pull = self._pulls.get(entry[2])
        return pull is not None and pull.state is _S.PAUSED and pull.ticket == entry[1]

    def _resume(self) -> None:
        while self._pauses and self._pauses[0][0] <= self._now_s:
            entry = heapq.heappop(self._pauses)
            if self._is_paused_by(entry):
                self._go_on(self._pulls[entry[2]])

    def _stop(self, pull: Pull) -> None:
        assert pull.attempt is not None
        self._out.append(StopAttempt(pull.object_id, pull.attempt))
        self._to(pull, _S.STOPPING)

    # ------------------------------------------------------------ turns and room

    def _lane(self, pull: Pull) -> Lane:
        return self._small if pull.small else self._large

    def _enqueue(self, pull: Pull) -> None:
        self._tickets += 1
        pull.ticket = self._tickets
        self._lane(pull).push(pull)

    def _admit(self, lane: Lane) -> None:
        while lane.slots < lane.slots_max and (pull := lane.next(self._pulls)) is not None:
            if not lane.fits(pull, self._free_bytes) and not self._make_way(lane, pull):
                return
            heapq.heappop(lane.queue)
            self._start(pull)

    def _make_way(self, lane: Lane, pull: Pull) -> bool:
        """Have less urgent pulls give their room to one that waits for it, if that is enough.

        True: it fits now.
        """
        assert pull.size_bytes is not None
        over_limit = lane.room_bytes + pull.size_bytes - lane.bytes_max
        needed = max(over_limit, pull.size_bytes - max(0, self._free_bytes))
        yielding: list[Pull] = []
        having = [other for other in self._pulls.values() if other.has_room and self._lane(other) is lane]
        for other in sorted(having, key=lambda other: -other.due_s):
            if needed <= 0:
                break
            if other.yields or not other.wanted:
                needed -= other.size_bytes or 0
            elif other.priority > pull.priority and other.due_s > pull.due_s and other.state in GIVES_WAY:
                yielding.append(other)
                needed -= other.size_bytes or 0
        if needed > 0:
            return False
        for other in yielding:
            if other.state is _S.STREAMING:
                other.yields = True
                self._stop(other)
                continue
            self._drop_buffer(other)
            if other.state is _S.QUEUED:
                self._enqueue(other)
            else:
                self._go_on(other)
        return lane.fits(pull, self._free_bytes)

    def _room_is(self, event: RoomIs) -> None:
        asked = sum(pull.size_bytes or 0 for pull in self._pulls.values() if pull.state is _S.CREATING)
        self._free_bytes = event.free_bytes - asked

    def _take_room(self, pull: Pull) -> None:
        assert pull.size_bytes is not None and not pull.has_room
        pull.has_room = True
        self._lane(pull).room_bytes += pull.size_bytes
        self._free_bytes -= pull.size_bytes

    def _give_room(self, pull: Pull) -> None:
        if pull.has_room:
            assert pull.size_bytes is not None
            pull.has_room = False
            self._lane(pull).room_bytes -= pull.size_bytes

    def _drop_buffer(self, pull: Pull) -> None:
        if pull.has_buffer:
            pull.has_buffer = False
            self._out.append(DropBuffer(pull.object_id))
            self._free_bytes += pull.size_bytes or 0
        pull.received_bytes = 0
        pull.yields = False
        self._give_room(pull)

    # ------------------------------------------------------------ answers of the store

    def _buffer_made(self, event: BufferMade) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None or pull.state is not _S.CREATING:
            self._out.append(Complain(f"a buffer nobody asked for: {event.object_id.hex()}"))
            self._out.append(DropBuffer(event.object_id))
            return
        pull.has_buffer = True
        pull.full_since_s = None
        self._go_on(pull)

    def _buffer_refused(self, event: BufferRefused) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None or pull.state is not _S.CREATING:
            return
        self._free_bytes += pull.size_bytes or 0
        self._give_room(pull)
        if event.refusal is Refusal.PRESENT:
            self._out.append(Pulled(pull.object_id))
            self._end(pull)
        elif not pull.wanted:
            self._end(pull)
        elif event.refusal is Refusal.NEVER:
            pull.tell(event.why)
            self._lose(pull, Cause.IMPOSSIBLE)
        elif event.refusal is Refusal.BEING_MADE:
            self._pause(pull, self._now_s + BACK_OFF_S)
        else:
            if pull.full_since_s is None:
                pull.full_since_s = self._now_s
            waited_s = self._now_s - pull.full_since_s
            if waited_s >= ROOM_PATIENCE_S:
                pull.tell(f"there was no room for {waited_s:.0f} s: {event.why}")
                self._lose(pull, Cause.NO_ROOM)
            else:
                self._pause(pull, self._now_s + min(BACK_OFF_S_MAX, max(BACK_OFF_S, waited_s)))

    def _sealed(self, event: Sealed) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None or pull.state is not _S.SEALING:
            return
        pull.has_buffer = False
        self._give_room(pull)
        self._out.append(Pulled(pull.object_id))
        self._end(pull)

    def _seal_refused(self, event: SealRefused) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None or pull.state is not _S.SEALING:
            return
        pull.tell(event.why)
        self._lose(pull, Cause.IMPOSSIBLE)

    # ------------------------------------------------------------ answers of sources

    def _attempt_ended(self, event: AttemptEnded) -> None:
        pull = self._pulls.get(event.object_id)
        if pull is None or pull.attempt != event.attempt or pull.state not in TRYING:
            return
        node, stopped = pull.source, pull.state is _S.STOPPING
        pull.attempt = pull.source = None
        source = next((source for source in pull.sources if source.node == node), None)
        self._take_answer(pull, source, event, stopped)
        if pull.yields and pull.received_bytes != pull.size_bytes:
            self._drop_buffer(pull)
        self._go_on(pull)

    def _take_answer(self, pull: Pull, source: Source | None, event: AttemptEnded, stopped: bool) -> None:
        size_bytes, end = event.size_bytes, event.end
        if pull.size_bytes is None:
            if size_bytes is not None and 0 <= size_bytes <= OBJECT_BYTES_MAX:
                self._know_size(pull, size_bytes)
            elif end is End.COMPLETE:
                end = End.WRONG
        elif size_bytes is not None and size_bytes != pull.size_bytes:
            end = End.WRONG
        elif end is End.DIFFERENT:
            pull.received_bytes = 0
            pull.restarts += 1
            if pull.restarts > RESTARTS_MAX:
                end = End.WRONG
        elif not pull.received_bytes <= event.received_bytes <= pull.size_bytes:
            self._out.append(Complain(f"{event} after {pull.received_bytes} of {pull.size_bytes} bytes"))
        elif pull.has_buffer:
            if source is not None and event.received_bytes > pull.received_bytes:
                source.failures = 0
            pull.received_bytes = event.received_bytes
            if end is End.COMPLETE and pull.received_bytes != pull.size_bytes:
                end = End.WRONG
        if source is None or end is End.COMPLETE or (stopped and end is End.BROKEN):
            return
        if end in (End.ABSENT, End.WRONG):
            self._strike_off(pull, source.node, f"node {source.node}: {event.why or end.value}")
            return
        if end is End.DIFFERENT:
            return
        if end is not End.BUSY:
            source.failures += 1
        if source.failures >= FAILURES_MAX:
            self._strike_off(
                pull, source.node, f"node {source.node} failed {source.failures} times: {event.why}"
            )
        else:
            pause_s = min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** max(0, source.failures - 1))
            source.not_before_s = self._now_s + pause_s * (0.5 + self._rng.random())

    def _know_size(self, pull: Pull, size_bytes: int) -> None:
        # The slot it has is counted in the lane of its size, which is another one now.
        self._count_slot(pull, -1)
        pull.size_bytes = size_bytes
        self._count_slot(pull, +1)

    # ------------------------------------------------------------ bookkeeping

    def _to(self, pull: Pull, state: PullState | None) -> None:
        if state not in TRANSITIONS[pull.state]:
            raise InvalidTransition(f"pull of {pull.object_id.hex()}: {pull.state} to {state}; {pull.story}")
        self._count_slot(pull, -1)
        pull.state = state
        self._count_slot(pull, +1)

    def _count_slot(self, pull: Pull, change: int) -> None:
        if pull.state in TRYING or pull.state is _S.CREATING:
            self._lane(pull).slots += change

    def _lose(self, pull: Pull, cause: Cause) -> None:
        self._out.append(Lost(pull.object_id, cause, "; ".join(pull.story) or "no source was named"))
        self._end(pull)

    def _end(self, pull: Pull) -> None:
        self._drop_buffer(pull)
        if pull.state is not None:
            self._to(pull, None)
        del self._pulls[pull.object_id]

    # ------------------------------------------------------------ invariants

    def validate(self) -> None:
        """Raise AssertionError if an invariant doesn't hold."""
        for lane in (self._large, self._small):
            lane.validate([pull for pull in self._pulls.values() if self._lane(pull) is lane])
        pauses = {ticket for _, ticket, _ in self._pauses}
        for pull in self._pulls.values():
            pull.validate()
            assert pull.state is not _S.PAUSED or pull.ticket in pauses, pull
