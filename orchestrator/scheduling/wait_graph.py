"""Who waits for whom: finds circles of processes that wait for each other, which no one of them can leave.

A process that waits on its main thread, without a time limit, for calls it has made, says so: an edge for
each call, to the process that has it. The edge counts if that process is stuck too, and the call cannot end
before it goes on: it hosts an actor (whose main thread serves all its calls), or runs that very task.

    waiting ──▶ a circle? ──▶ every member is asked again ──all still wait──▶ the last one to come is told

An edge may be out of date: the answer may be in its channel while the caller's report is on its way. A member
answers only after it has read all that had arrived; whoever is stuck sends nothing; so when all have answered
after the circle was closed, no answer can be under way, and it is a deadlock for sure.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

#: Processes looked at to find one circle. Who is stuck in longer chains waits without being told why.
SEARCH_MAX = 10_000

Call = tuple[int, int]


class Waiting(NamedTuple):
    """What one process says."""

    #: Number of the wait, to tell it from earlier and later ones.
    wait: int
    #: What it does, in words.
    name: str
    #: The call on its main thread: (submitter, number).
    run: Call | None
    #: Whether it serves all its calls on that thread.
    is_actor: bool
    #: Calls it waits for: (address of the process that has it, number).
    calls: tuple[Call, ...]


class Ask(NamedTuple):
    """Ask a process whether it still waits."""

    process: int
    wait: int


class Break(NamedTuple):
    """Tell a process that its wait for these calls never ends."""

    process: int
    wait: int
    calls: tuple[int, ...]
    text: str


Instruction = Ask | Break


class _Circle:
    """Processes of which each waits for the next, the last for the first."""

    def __init__(self, members: list[int], waits: dict[int, int]) -> None:
        self.members = members
        #: The wait of each member, and who has not confirmed it yet.
        self.waits = waits
        self.unconfirmed = set(members)


class WaitGraph:
    """Pure: every method returns what to do."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        #: Circles that are being confirmed, by the process that closed them.
        self._suspects: dict[int, _Circle] = {}

    def waiting(self, process: int, waiting: Waiting, *, confirms: bool) -> list[Instruction]:
        """A process waits, or (`confirms`) still does."""
        self._waiting[process] = waiting
        out: list[Instruction] = []
        if confirms:
            for closer, circle in list(self._suspects.items()):
                if circle.waits.get(process) == waiting.wait:
                    circle.unconfirmed.discard(process)
                    if not circle.unconfirmed:
                        del self._suspects[closer]
                        out += self._break(closer, circle)
            return out
        members = self._find_circle(process)
        if members:
            waits = {member: self._waiting[member].wait for member in members}
            self._suspects[process] = _Circle(members, waits)
            out += [Ask(member, wait) for member, wait in waits.items()]
        return out

    def over(self, process: int) -> None:
        """A process goes on, or is gone."""
        if self._waiting.pop(process, None) is not None:
            for closer, circle in list(self._suspects.items()):
                if process in circle.waits:
                    del self._suspects[closer]

    def _next(self, process: int) -> dict[int, list[int]]:
        """Return the processes this one is stuck behind, with the numbers of its calls there."""
        found: dict[int, list[int]] = {}
        for address, number in self._waiting[process].calls:
            other = self._waiting.get(address)
            if other is not None and (other.is_actor or other.run == (process, number)):
                found.setdefault(address, []).append(number)
        return found

    def _find_circle(self, start: int) -> list[int]:
        """Return the members of a circle through `start`, in order; empty if there is none."""
        came_from: dict[int, int] = {}
        stack = [start]
        while stack and len(came_from) < SEARCH_MAX:
            process = stack.pop()
            for other in self._next(process):
                if other == start:
                    members = [process]
                    while members[-1] != start:
                        members.append(came_from[members[-1]])
                    return members[::-1]
                if other not in came_from:
                    came_from[other] = process
                    stack.append(other)
        return []

    def _break(self, closer: int, circle: _Circle) -> list[Instruction]:
        ring = [*circle.members, circle.members[0]]
        for one, other in pairwise(ring):
            if other not in self._next(one):
                return []  # it waits for other calls by now
        names = [self._waiting[member].name for member in circle.members]
        text = ", which waits for ".join([*names, names[0]]).replace(", which waits", " waits", 1)
        numbers = tuple(self._next(closer)[ring[1]])
        return [Break(closer, circle.waits[closer], numbers, text)]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for closer, circle in self._suspects.items():
            assert circle.members[0] == closer
            assert circle.unconfirmed and circle.unconfirmed <= set(circle.members)
            for member in circle.members:
                assert member in self._waiting, member
