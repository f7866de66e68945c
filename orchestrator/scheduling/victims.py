"""Which worker ends when memory runs out. Pure: facts in, a choice out.

Who has next to nothing is spared, as its end would help nobody: an actor of a few megabytes would be ended
and restarted again and again for what somebody else holds. Nor does anybody end for one who must go anyway,
since too much would be in use even without all others. Of the others, what can be repeated goes first, of
that the work of the client that has most running (so that each keeps some), and of that the youngest, which
has least to lose. Ages within `SAME_AGE_S` are the same: then the largest goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SAME_AGE_S = 1.0
#: Who has less than this share of what the largest has is not worth ending.
WORTH_SHARE = 0.1


class Candidate(NamedTuple):
    """A worker that runs something."""

    token: int
    #: Whose work it is: the client that submitted it.
    owner: int
    #: Whether what it runs is repeated, or restarted, when it is ended.
    retriable: bool
    #: When it was lent, or became an actor.
    since_s: float
    private_bytes: int


def worth_ending(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those whose end would make room."""
    largest = max((one.private_bytes for one in candidates), default=0)
    return [one for one in candidates if one.private_bytes >= WORTH_SHARE * largest]


def inevitable(candidates: Sequence[Candidate], excess_bytes: int) -> list[Candidate]:
    """Return those without whose end too much would be in use, though all others ended."""
    total_bytes = sum(one.private_bytes for one in candidates)
    if total_bytes < excess_bytes:
        return []  # others hold the memory
    return [one for one in candidates if total_bytes - one.private_bytes < excess_bytes]


def choose_victim(candidates: Sequence[Candidate], excess_bytes: int = 0) -> Candidate | None:
    """Return which of those worth ending is to end; None if there are none.

    Args:
        candidates: those worth ending.
        excess_bytes: how much too much is in use.
    """
    if not candidates:
        return None
    candidates = inevitable(candidates, excess_bytes) or candidates
    running = Counter((one.retriable, one.owner) for one in candidates)
    retriable, owner = max(running, key=lambda group: (group[0], running[group]))
    group = [one for one in candidates if (one.retriable, one.owner) == (retriable, owner)]
    youngest_s = max(one.since_s for one in group)
    return max(
        (one for one in group if youngest_s - one.since_s <= SAME_AGE_S),
        key=lambda one: (one.private_bytes, one.since_s),
    )
