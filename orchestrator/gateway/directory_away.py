"""The half of the directory about objects of theirs: which of them this node borrows, wants, or has. PURE."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.common.ids import home_of
from orchestrator.gateway.directory_peers import Peers
from orchestrator.gateway.directory_records import (
    NODE_DIED,
    AwayRecord,
    Instruction,
    Keep,
    Lose,
    Pull,
    Release,
    Retain,
    Send,
    StopPull,
    news,
)


class AwayObjects:
    """What a `Directory` is to the homes of other nodes' objects."""

    def __init__(self, here: int, peers: Peers) -> None:
        self.here = here
        self._peers = peers
        self._away: dict[bytes, AwayRecord] = {}

    def _others_would_miss_theirs(self) -> bool:
        return any(
            away.given_to and away.has_copy and not away.is_free and not away.home_is_dead
            for away in self._away.values()
        )

    # ------------------------------------------------------------ what processes of this node say

    def borrow(self, process: int, identity: bytes) -> list[Instruction]:
        """A process here has got a reference to an object of another node."""
        home = home_of(identity)
        if home == self.here:
            return []
        record, out = self._away_record(identity)
        if record.home_is_dead:
            return out
        if not record.borrowed:
            record.borrowed = True
            if not self._peers.take_back(_tell_home("unborrow", identity)):
                self._peers.borrows(identity)
                out.append(_tell_home("borrow", identity))
            elif home in self._peers.draining:
                out += self._save_borrowed(identity)
        self._peers.hold(process, identity)
        return out

    def _want_theirs(self, identity: bytes) -> list[Instruction]:
        record, out = self._away_record(identity)
        if record.home_is_dead:
            return [*out, Lose(identity, NODE_DIED)]
        record.is_wanted = True
        record.has_copy = False  # its file on disk is lost, if it had one; the question tells the home
        if not record.is_asked and not record.pulls:
            record.is_asked = True
            out.append(_tell_home("want", identity))
        return out

    def _gave_theirs(self, identity: bytes, owner: int, size_bytes: int) -> list[Instruction]:
        record, out = self._away_record(identity)
        record.given_to = owner
        record.has_copy = True
        if record.home_is_dead:
            return [*out, Release(identity, owner)]
        return [*out, _tell_stored(identity, size_bytes)]

    def entrust(self, identity: bytes, size_bytes: int) -> list[Instruction]:
        """An object was stored here of which another node is to be the home: that has asked for it."""
        record, out = self._away_record(identity)
        if record.home_is_dead:
            return out
        record.given_to, record.has_copy, record.is_free = -1, True, False
        return [*out, _tell_stored(identity, size_bytes)]

    # ------------------------------------------------------------ what the store and the transfer say

    def _unneeded_theirs(self, identity: bytes) -> list[Instruction]:
        away = self._away.get(identity)
        if away is None:
            return [Release(identity, 0)]
        if away.given_to and not away.is_free and not away.home_is_dead:
            # The bytes stay; that nobody here refers to them the home should know.
            return self._unborrow(identity, away) if away.borrowed else []
        if away.has_copy and not away.is_free and not away.home_is_dead:
            return [*(self._unborrow(identity, away) if away.borrowed else []), Retain(identity)]
        return [Release(identity, away.given_to)]

    def pulls(self, identity: bytes) -> bool:
        """Tell whether the bytes of an object of another node are on their way here, and not here yet."""
        away = self._away.get(identity)
        return away is not None and away.pulls and not away.has_copy

    def drop(self, identity: bytes) -> list[Instruction]:
        """There is no room for a copy that was retained."""
        away = self._away.get(identity)
        is_spare = away is not None and away.has_copy and not (away.borrowed or away.given_to)
        return [Release(identity, 0)] if is_spare else []

    def _released_theirs(self, identity: bytes) -> list[Instruction]:
        away = self._away.pop(identity, None)
        if away is None:
            return []
        out: list[Instruction] = [StopPull(identity)] if away.pulls else []
        if away.borrowed:
            # A copy that was not given goes with it, and the home need not be told twice.
            with_copy = away.has_copy and not away.given_to
            out += self._unborrow(identity, away, with_copy=with_copy)
        elif away.has_copy and not away.home_is_dead and not away.is_free:
            self._peers.end([_tell_home("dropped", identity)])
        elif (away.pulls or away.is_asked) and not away.home_is_dead:
            out.append(_tell_home("unwanted", identity))
        return out

    def _pulled_theirs(self, identity: bytes) -> list[Instruction]:
        away = self._away.get(identity)
        if away is None:
            return []
        away.pulls = away.is_wanted = False
        away.has_copy = True
        if away.home_is_dead or away.is_free:
            return []
        self._peers.take_back(_tell_home("dropped", identity))
        return [_tell_home("copied", identity)]

    def _not_pulled_theirs(self, identity: bytes, without: Iterable[int], why: str) -> list[Instruction]:
        away = self._away.get(identity)
        if away is None:
            return []
        away.pulls = away.is_asked = False
        if away.home_is_dead:
            return [Lose(identity, NODE_DIED)]
        message = news("stale", identity) | {"nodes": sorted(without), "why": why}
        out: list[Instruction] = [Send(home_of(identity), message)]
        if away.is_wanted:
            out += self._want_theirs(identity)
        return out

    def _give_up_theirs(self, identity: bytes) -> list[Instruction]:
        away = self._away.get(identity)
        if away is None:
            return []
        away.pulls = away.is_asked = away.is_wanted = False
        return [] if away.home_is_dead else [_tell_home("unwanted", identity)]

    # ------------------------------------------------------------ what other nodes say

    def on_borrowed(self, node: int, identity: bytes) -> list[Instruction]:
        """The home has acknowledged that we borrow an object."""
        out = self._peers.acknowledged(identity)
        return out + self._save_borrowed(identity) if node in self._peers.draining else out

    def on_unknown(self, node: int, identity: bytes, verdict: str) -> list[Instruction]:
        """The home does not know the object that we wanted to borrow."""
        out = self._peers.acknowledged(identity)
        away = self._away.get(identity)
        if away is not None:
            away.borrowed = False
            away.is_free = True
            if not away.has_copy:
                out.append(Lose(identity, verdict))
        return out

    def on_located(
        self, node: int, identity: bytes, nodes: Iterable[int], size_bytes: int
    ) -> list[Instruction]:
        """The home says where the bytes are."""
        away = self._away.get(identity)
        if away is None or away.pulls or away.has_copy or not away.is_wanted:
            return []
        sources = tuple(one for one in nodes if one != self.here and one not in self._peers.dead)
        away.is_asked = False
        if not sources:
            return self._not_pulled_theirs(identity, nodes, "those nodes are dead")
        away.pulls = True
        return [Pull(identity, sources, size_bytes)]

    def on_lost(self, node: int, identity: bytes, verdict: str) -> list[Instruction]:
        """The home says that the object can't be had."""
        away = self._away.get(identity)
        if away is None or away.has_copy:
            return []
        away.is_wanted = away.is_asked = False
        return [Lose(identity, verdict)]

    def on_free(self, node: int, identity: bytes) -> list[Instruction]:
        """Nobody needs an object any more that lies here for its home."""
        away = self._away.get(identity)
        if away is None:
            return []
        away.is_free = True
        return [Release(identity, away.given_to)]

    # ------------------------------------------------------------ nodes that leave, and deaths

    def _save_theirs(self, node: int) -> list[Instruction]:
        out: list[Instruction] = []
        for identity in [one for one in self._away if home_of(one) == node]:
            out += self._save_borrowed(identity)
        return out

    def _save_borrowed(self, identity: bytes) -> list[Instruction]:
        """Have a copy of an object of a node that leaves, as long as somebody here refers to it."""
        away = self._away.get(identity)
        if away is None or away.has_copy or away.pulls:
            return []
        # What is not acknowledged yet may be unknown there; the answer decides.
        is_known = away.borrowed and self._peers.is_acknowledged(identity)
        return self._want_theirs(identity) if is_known else []

    def _orphan(self, node: int) -> list[Instruction]:
        """The home of these objects is dead: what is here stays as long as somebody here refers to it."""
        out: list[Instruction] = []
        for identity, away in list(self._away.items()):
            if home_of(identity) != node:
                continue
            away.home_is_dead = True
            away.borrowed = away.is_asked = False
            if not away.has_copy:
                out.append(Lose(identity, NODE_DIED))
            out.append(Release(identity, away.given_to))
        return out

    def _forget_stand_in_of_theirs(self, address: int) -> None:
        for away in self._away.values():
            if away.given_to == address:
                away.given_to = -1  # its home says when it can go; no stand-in holds it any more

    # ------------------------------------------------------------ inside

    def _away_record(self, identity: bytes) -> tuple[AwayRecord, list[Instruction]]:
        record = self._away.get(identity)
        if record is not None:
            return record, []
        record = self._away[identity] = AwayRecord()
        record.home_is_dead = home_of(identity) in self._peers.dead
        if record.home_is_dead:
            return record, [Keep(identity), Lose(identity, NODE_DIED)]
        return record, [Keep(identity)]

    def _unborrow(self, identity: bytes, away: AwayRecord, *, with_copy: bool = False) -> list[Instruction]:
        away.borrowed = False
        if not away.home_is_dead:
            self._peers.end([_tell_home("unborrow", identity)])
            if with_copy:
                self._peers.end([_tell_home("dropped", identity)])
        return self._peers.endings_due()

    def _validate_theirs(self) -> None:
        for identity, away in self._away.items():
            assert home_of(identity) != self.here, identity
            assert not (away.pulls and away.has_copy), identity
            assert away.home_is_dead == (home_of(identity) in self._peers.dead), identity


def _tell_home(op: str, identity: bytes) -> Send:
    return Send(home_of(identity), news(op, identity))


def _tell_stored(identity: bytes, size_bytes: int) -> Send:
    return Send(home_of(identity), news("stored", identity) | {"size": size_bytes})
