"""Which objects go when room is needed. Pure: candidates and a need in, victims out.

The store keeps the same order inside its segment (``lifecycle``: one list a shard, the oldest of all shards
first), where the choice costs no allocation. This is the rule it has to agree with, and what the tests
compare it to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Candidate", "choose_victims"]


class Candidate(NamedTuple):
    """An object that may go: sealed, without pins, without references."""

    object_id: bytes
    #: what its removal gives back
    size_bytes: int
    #: any clock, as long as all candidates use the same
    used_at: float


def choose_victims(candidates: Iterable[Candidate], need_bytes: int) -> list[Candidate] | None:
    """The least recently used candidates that make up ``need_bytes``, oldest first; None if all don't.

    Nobody is evicted in vain: with None the caller waits or gives up, and the objects stay.
    Equal times are decided by the id, so that the choice is the same everywhere.
    """
    victims: list[Candidate] = []
    freed_bytes = 0
    for candidate in sorted(candidates, key=lambda candidate: (candidate.used_at, candidate.object_id)):
        if freed_bytes >= need_bytes:
            break
        victims.append(candidate)
        freed_bytes += candidate.size_bytes
    return victims if freed_bytes >= need_bytes else None
