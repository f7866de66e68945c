"""Objects whose home is on another node, or whose bytes are. PURE: events in, instructions out.

Which node is an object's *home* is part of its id: the node of the process that made it. The home knows where
the bytes are and which nodes borrow the object. Every other node keeps account of the processes of its own
(the store does), and tells the home only of the first and the last of them. So an object that a thousand
processes share costs one message a node.

At home, for an object of ours                     Elsewhere, for an object of theirs
---------------------------------------------      ---------------------------------------------------
stored    a result of ours lies on that node       a process here refers to it: we *borrow* it
borrow    that node has somebody who needs it      a process here waits for its bytes: we *want* it
want      that node wants its bytes: `located`,    it is sealed here: we have a *copy*, or the first
          now or when they exist somewhere         one there is (`given`: it was made here for them)
released  nobody here needs it, nobody borrows     nobody here needs it: `unborrow`; a copy goes, what was
          it: `free` to all who have copies        given stays until `free`

**No object is freed that somebody refers to.** Whoever passes a reference on holds it until the receiver
has answered.
The receiver's node registers the borrowing with the home, and holds back what the receiver sends
(`is_held`) until the home
has acknowledged; after that the sender may let go. News that end something (`free`, `unborrow`) wait until
all borrowings of
this node are acknowledged: a copy that is given up may have held what is being borrowed. Links keep the
order of what one node tells another, so a node that borrows again after `unborrow` is understood.

**Who leaves.** Of a node that drains, the homes of what it holds bring that to themselves, and give it free
there; those who borrow what is its own bring copies to themselves. When it holds nothing for others any more
(`holds_for_others`) it may go.

**Who dies.** A node: what it borrowed is given back, its copies are gone. If it had the only one, the
process that owns the
object is told (`Missing`) and makes it again. A home: what is here stays as long as somebody here refers
to it; what is not can't be had any more (`Lose`). A process: the store gives back what it held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.common.ids import home_of
from orchestrator.gateway.directory_records import (
    ABSENT,
    CREATED,
    FREED,
    GONE,
    HERE,
    LOST,
    NODE_DIED,
    OWNER_DIED,
    PENDING,
    SEALED,
    SPILLED,
    VERDICTS,
    AwayRecord,
    HomeRecord,
    Instruction,
    Keep,
    LetGo,
    Lose,
    Missing,
    Pull,
    Release,
    Send,
    StopPull,
    Watch,
    lost,
    news,
)

__all__ = [
    "ABSENT", "CREATED", "FREED", "GONE", "HERE", "LOST", "NODE_DIED", "OWNER_DIED", "PENDING", "SEALED",
    "SPILLED",
    "VERDICTS", "AwayRecord", "Directory", "HomeRecord", "Instruction", "Keep", "LetGo", "Lose", "Missing",
    "Pull", "Release", "Send", "StopPull", "Watch",
]  # fmt: skip


class Directory:
    """The objects of one node that others have to do with. Every method returns what to do.

    Args:
        here: the index of this node.
    """

    def __init__(self, here: int) -> None:
        self.here = here
        self._home: dict[bytes, HomeRecord] = {}
        self._away: dict[bytes, AwayRecord] = {}
        #: Borrowings that were not acknowledged, and for which processes: what those send is held back.
        self._unacknowledged: dict[bytes, set[int]] = {}
        #: Processes that wait for acknowledgements: how many of them.
        self._held: dict[int, int] = {}
        #: News that end something; they wait until everything is acknowledged.
        self._endings: list[Send] = []
        self._dead: set[int] = set()
        #: Objects of ours that a process here waits for, of which no other node has heard so far: each is
        #: watched, until it is sealed, or lost, or its result is reported by the node where it was made.
        self._awaited: set[bytes] = set()
        #: Nodes that are about to leave.
        self._draining: set[int] = set()

    def __len__(self) -> int:
        return len(self._home) + len(self._away)

    def is_held(self, process: int) -> bool:
        """Tell whether what a process sends must be held back for now."""
        return process in self._held

    def holds_for_others(self) -> bool:
        """Tell whether other nodes would miss something if this one left now."""
        return any((home.borrowers | home.wanters) - home.copies for home in self._home.values()) or any(
            away.given_to and away.has_copy and not away.is_free and not away.home_is_dead
            for away in self._away.values()
        )

    def counts(self) -> dict[str, int]:
        """Return how many objects there are of each kind, for people."""
        return {
            "home": len(self._home),
            "borrowed": sum(record.borrowed for record in self._away.values()),
            "copies": sum(record.has_copy for record in self._away.values()),
            "unacknowledged": len(self._unacknowledged),
        }

    def copies(self, identity: bytes) -> tuple[list[int], int]:
        """Return on which other nodes an object of ours is, and its size in bytes; 0 if that is not known."""
        home = self._home.get(identity)
        return (sorted(home.copies), home.size_bytes) if home is not None else ([], 0)

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
            if not self._take_back("unborrow", identity):
                self._unacknowledged[identity] = set()
                out.append(Send(home, news("borrow", identity)))
            elif home in self._draining:
                out += self._save_borrowed(identity)
        waiting = self._unacknowledged.get(identity)
        if waiting is not None and process not in waiting:
            waiting.add(process)
            self._held[process] = self._held.get(process, 0) + 1
        return out

    def want(self, identity: bytes, state: int) -> list[Instruction]:
        """A process here waits for the bytes of an object that aren't here; `state` is the store's."""
        if state in HERE:
            return []
        if home_of(identity) == self.here:
            # It will be sealed here, or a result of it will be reported: then it is known who waits.
            out = self._home_record(identity)[1] if state in (PENDING, CREATED) else []
            return [*out, *self._want_at_home(identity)]
        record, out = self._away_record(identity)
        if record.home_is_dead:
            return [*out, Lose(identity, NODE_DIED)]
        record.is_wanted = True
        if not record.is_asked and not record.pulls:
            record.is_asked = True
            out.append(Send(home_of(identity), news("want", identity)))
        return out

    def _want_at_home(self, identity: bytes) -> list[Instruction]:
        record = self._home.get(identity)
        if record is None or record.wanted_here:
            return []
        record.wanted_here = True
        if record.copies:
            return [Pull(identity, tuple(sorted(record.copies)), record.size_bytes)]
        return []

    def keep(self, identity: bytes) -> list[Instruction]:
        """An object of ours matters elsewhere though nobody there refers to it: say when it is `released`."""
        return self._home_record(identity)[1]

    def gave(self, identity: bytes, owner: int, size_bytes: int, node: int) -> list[Instruction]:
        """A worker here has stored an object for a process of another node, whose stand-in is `owner`."""
        if home_of(identity) == self.here:
            # A message too long for a channel, say: ours, and the receiver's to read.
            home, out = self._home_record(identity)
            home.given_to = owner
            home.borrowers.add(node)
            home.size_bytes = size_bytes
            return out
        record, out = self._away_record(identity)
        record.given_to = owner
        record.has_copy = True
        if record.home_is_dead:
            return [*out, Release(identity, owner)]
        message = news("stored", identity) | {"size": size_bytes}
        return [*out, Send(home_of(identity), message)]

    def entrust(self, identity: bytes, size_bytes: int) -> list[Instruction]:
        """An object was stored here of which another node is to be the home: that has asked for it."""
        record, out = self._away_record(identity)
        if record.home_is_dead:
            return out
        record.given_to, record.has_copy, record.is_free = -1, True, False
        return [*out, Send(home_of(identity), news("stored", identity) | {"size": size_bytes})]

    # ------------------------------------------------------------ what the store and the transfer say

    def unneeded(self, identity: bytes) -> list[Instruction]:
        """No process of this node needs the object any more."""
        home = self._home.get(identity)
        if home is not None:
            home.is_unneeded = True
            return self._settle_home(identity, home)
        away = self._away.get(identity)
        if away is None:
            return [Release(identity, 0)]
        if away.given_to and not away.is_free and not away.home_is_dead:
            # The bytes stay; that nobody here refers to them the home should know.
            out: list[Instruction] = []
            if away.borrowed:
                out += self._unborrow(identity, away)
            return out
        return [Release(identity, away.given_to)]

    def released(self, identity: bytes) -> list[Instruction]:
        """The store has let go of an object, as `Release` asked."""
        out: list[Instruction] = []
        home = self._home.pop(identity, None)
        if home is not None:
            if home.wanted_here:
                out.append(StopPull(identity))
            self._end(Send(node, news("free", identity)) for node in sorted(home.copies))
            out += [Send(node, lost(identity, GONE)) for node in sorted(home.wanters)]
        away = self._away.pop(identity, None)
        if away is not None:
            if away.pulls:
                out.append(StopPull(identity))
            if away.borrowed:
                out += self._unborrow(identity, away)
            elif away.has_copy and not away.home_is_dead and not away.is_free:
                self._end([Send(home_of(identity), news("dropped", identity))])
        return out + self._endings_due()

    def decided(self, identity: bytes, state: int) -> list[Instruction]:
        """An object that was watched is sealed, or lost."""
        home = self._home.get(identity)
        if home is None:
            return []
        out: list[Instruction] = []
        if state in HERE:
            home.missing = False
            out += self._tell_wanters(identity, home, [self.here])
        elif state in VERDICTS and not home.copies and not home.missing:
            out += self._refuse_wanters(identity, home, VERDICTS[state])
        elif state in (PENDING, CREATED) and home.wanters:
            out.append(Watch(identity))
        return out + self._settle_home(identity, home)

    def pulled(self, identity: bytes) -> list[Instruction]:
        """The bytes of an object are here."""
        home = self._home.get(identity)
        if home is not None:
            home.wanted_here = False
            out = self._tell_wanters(identity, home, [self.here, *sorted(home.copies)])
            return [*out, *self._free_leaving(identity, home)]
        away = self._away.get(identity)
        if away is None:
            return []
        away.pulls = away.is_wanted = False
        away.has_copy = True
        if away.home_is_dead or away.is_free:
            return []
        self._take_back("dropped", identity)
        return [Send(home_of(identity), news("copied", identity))]

    def pull_impossible(self, identity: bytes, why: str) -> list[Instruction]:
        """There is no room here for an object, wherever it is."""
        home = self._home.get(identity)
        if home is not None:
            home.wanted_here = False
        away = self._away.get(identity)
        if away is not None:
            away.pulls = away.is_asked = away.is_wanted = False
        return [Lose(identity, why)]

    def pull_failed(self, identity: bytes, without: Iterable[int], why: str) -> list[Instruction]:
        """The bytes could not be had from these nodes: they have no copy, or can't be reached."""
        home = self._home.get(identity)
        if home is not None:
            home.wanted_here = False
            out: list[Instruction] = []
            for node in without:
                out += self._copy_gone(identity, home, node)
            return [*out, *self._want_at_home(identity)]
        away = self._away.get(identity)
        if away is None:
            return []
        away.pulls = away.is_asked = False
        if away.home_is_dead:
            return [Lose(identity, NODE_DIED)]
        out = [Send(home_of(identity), news("stale", identity) | {"nodes": sorted(without), "why": why})]
        if away.is_wanted:
            out += self.want(identity, PENDING)
        return out

    # ------------------------------------------------------------ what other nodes say

    def on_stored(self, node: int, identity: bytes, size_bytes: int, state: int) -> list[Instruction]:
        """A result of a process of ours lies on another node; `state` is what the store says now."""
        if state in (ABSENT, LOST, FREED):
            # Nobody waits for it any more.
            self._end([Send(node, news("free", identity))])
            return self._endings_due()
        home, out = self._home_record(identity)
        home.copies.add(node)
        home.size_bytes = size_bytes
        home.missing = False
        if home.wanted_here and state not in HERE:
            out.append(Pull(identity, tuple(sorted(home.copies)), size_bytes))
        out += self._tell_wanters(identity, home, sorted(home.copies))
        return [*out, *self._rescue(identity, home, state)]

    def on_borrow(self, node: int, identity: bytes, state: int) -> list[Instruction]:
        """A node has a process that refers to an object of ours."""
        if state in (ABSENT, FREED) and identity not in self._home:
            return [Send(node, news("unknown", identity) | {"verdict": VERDICTS[state]})]
        home, out = self._home_record(identity)
        home.borrowers.add(node)
        return [*out, Send(node, news("borrowed", identity))]

    def on_unborrow(self, node: int, identity: bytes) -> list[Instruction]:
        """A node's last process has let go of an object of ours."""
        home = self._home.get(identity)
        if home is None:
            return []
        home.borrowers.discard(node)
        home.wanters.discard(node)
        return self._settle_home(identity, home)

    def on_want(self, node: int, identity: bytes, state: int) -> list[Instruction]:
        """A node wants the bytes of an object of ours."""
        home = self._home.get(identity)
        if state in VERDICTS and (home is None or not (home.copies or home.missing)):
            return [Send(node, lost(identity, VERDICTS[state]))]
        home, out = self._home_record(identity)
        if state in HERE:
            home.copies.discard(node)
            return [*out, Send(node, self._located(identity, home, [self.here, *sorted(home.copies)]))]
        home.copies.discard(node)
        if home.copies:
            return [*out, Send(node, self._located(identity, home, sorted(home.copies)))]
        home.wanters.add(node)
        return [*out, Watch(identity)]

    def on_copied(self, node: int, identity: bytes) -> list[Instruction]:
        """A node has a copy of an object of ours."""
        home = self._home.get(identity)
        if home is None:
            self._end([Send(node, news("free", identity))])
            return self._endings_due()
        home.copies.add(node)
        return self._tell_wanters(identity, home, sorted(home.copies))

    def on_dropped(self, node: int, identity: bytes) -> list[Instruction]:
        """A node has a copy no longer."""
        home = self._home.get(identity)
        return self._copy_gone(identity, home, node) if home is not None else []

    def on_stale(self, node: int, identity: bytes, without: Iterable[int]) -> list[Instruction]:
        """A node could not have the bytes from those that we had named."""
        home = self._home.get(identity)
        out: list[Instruction] = []
        for one in without:
            if home is not None and one != self.here:
                out += self._copy_gone(identity, home, one)
        return out

    def on_borrowed(self, node: int, identity: bytes) -> list[Instruction]:
        """The home has acknowledged that we borrow an object."""
        out = self._acknowledged(identity)
        return out + self._save_borrowed(identity) if node in self._draining else out

    def on_unknown(self, node: int, identity: bytes, verdict: str) -> list[Instruction]:
        """The home does not know the object that we wanted to borrow."""
        out = self._acknowledged(identity)
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
        sources = tuple(one for one in nodes if one != self.here and one not in self._dead)
        away.is_asked = False
        if not sources:
            return self.pull_failed(identity, nodes, "those nodes are dead")
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

    # ------------------------------------------------------------ nodes that leave

    def node_drains(self, node: int, state_of: Callable[[bytes], int]) -> list[Instruction]:
        """Another node is about to leave: have here what would be lost with it."""
        self._draining.add(node)
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            if node in home.copies:
                out += self._rescue(identity, home, state_of(identity))
        for identity in [one for one in self._away if home_of(one) == node]:
            out += self._save_borrowed(identity)
        return out

    def _rescue(self, identity: bytes, home: HomeRecord, state: int) -> list[Instruction]:
        """Bring an object of ours here, if it lies only on nodes that leave."""
        if not home.copies or not home.copies <= self._draining:
            return []
        if state in HERE:
            return self._free_leaving(identity, home)
        return self._want_at_home(identity)

    def _free_leaving(self, identity: bytes, home: HomeRecord) -> list[Instruction]:
        """The bytes are here: nodes that leave need not keep theirs."""
        leaving = home.copies & self._draining
        home.copies -= leaving
        self._end(Send(node, news("free", identity)) for node in sorted(leaving))
        return self._endings_due() if leaving else []

    def _save_borrowed(self, identity: bytes) -> list[Instruction]:
        """Have a copy of an object of a node that leaves, as long as somebody here refers to it."""
        away = self._away.get(identity)
        if away is None or away.has_copy or away.pulls:
            return []
        # What is not acknowledged yet may be unknown there; the answer decides.
        is_known = away.borrowed and identity not in self._unacknowledged
        return self.want(identity, PENDING) if is_known else []

    # ------------------------------------------------------------ deaths

    def node_died(self, node: int) -> list[Instruction]:
        """A node is dead."""
        self._dead.add(node)
        self._draining.discard(node)
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            home.borrowers.discard(node)
            home.wanters.discard(node)
            out += self._copy_gone(identity, home, node)
            out += self._settle_home(identity, home)
        for identity, away in list(self._away.items()):
            if home_of(identity) != node:
                continue
            away.home_is_dead = True
            away.borrowed = away.is_asked = False
            if not away.has_copy:
                out.append(Lose(identity, NODE_DIED))
            out.append(Release(identity, away.given_to))
        self._endings = [ending for ending in self._endings if ending.node != node]
        for identity in [one for one in self._unacknowledged if home_of(one) == node]:
            out += self._acknowledged(identity)
        return out + self._endings_due()

    def owner_died(
        self, mine: Callable[[bytes], bool], state_of: Callable[[bytes], int]
    ) -> list[Instruction]:
        """A process of this node is dead: what it had promised, and nobody has, will not come."""
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            if mine(identity) and not home.copies and state_of(identity) not in HERE:
                home.missing = False
                out.append(Lose(identity, OWNER_DIED))
                out += self._refuse_wanters(identity, home, OWNER_DIED)
                out += self._settle_home(identity, home)
        return out

    def stand_in_gone(self, address: int, node: int) -> list[Instruction]:
        """A process of another node is dead: what was made here for it is nobody's, if nobody else refers
        to it.
        """
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            if home.given_to == address:
                home.given_to = 0
                home.borrowers.discard(node)
                out += self._settle_home(identity, home)
        for away in self._away.values():
            if away.given_to == address:
                away.given_to = -1  # its home says when it can go; no stand-in holds it any more
        return out

    # ------------------------------------------------------------ inside

    def _home_record(self, identity: bytes) -> tuple[HomeRecord, list[Instruction]]:
        record = self._home.get(identity)
        if record is not None:
            return record, []
        record = self._home[identity] = HomeRecord()
        return record, [Keep(identity)]

    def _away_record(self, identity: bytes) -> tuple[AwayRecord, list[Instruction]]:
        record = self._away.get(identity)
        if record is not None:
            return record, []
        record = self._away[identity] = AwayRecord()
        record.home_is_dead = home_of(identity) in self._dead
        if record.home_is_dead:
            return record, [Keep(identity), Lose(identity, NODE_DIED)]
        return record, [Keep(identity)]

    def _settle_home(self, identity: bytes, home: HomeRecord) -> list[Instruction]:
        """Let an object of ours go that nobody elsewhere refers to: to the store, or for good."""
        if home.borrowers or home.wanters:
            return []
        if home.is_unneeded:
            home.is_unneeded = False  # should the store find that it is needed again, it will say so again
            return [Release(identity, home.given_to)]
        return []

    def _copy_gone(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        if node not in home.copies:
            return []
        home.copies.remove(node)
        if home.copies or home.missing:
            return []
        # Maybe the bytes are here; the owner's node finds that out when it performs this.
        home.missing = True
        return [Missing(identity)]

    def _located(self, identity: bytes, home: HomeRecord, nodes: list[int]) -> dict[str, Any]:
        return news("located", identity) | {"nodes": nodes, "size": home.size_bytes}

    def _tell_wanters(self, identity: bytes, home: HomeRecord, nodes: list[int]) -> list[Instruction]:
        wanters, home.wanters = home.wanters, set()
        return [
            Send(node, self._located(identity, home, [one for one in nodes if one != node]))
            for node in sorted(wanters)
        ]

    def _refuse_wanters(self, identity: bytes, home: HomeRecord, verdict: str) -> list[Instruction]:
        wanters, home.wanters = home.wanters, set()
        return [Send(node, lost(identity, verdict)) for node in sorted(wanters)]

    def _acknowledged(self, identity: bytes) -> list[Instruction]:
        waiting = self._unacknowledged.pop(identity, None)
        if waiting is None:
            return []
        out: list[Instruction] = []
        for process in sorted(waiting):
            self._held[process] -= 1
            if not self._held[process]:
                del self._held[process]
                out.append(LetGo(process))
        return out + self._endings_due()

    def _unborrow(self, identity: bytes, away: AwayRecord) -> list[Instruction]:
        away.borrowed = False
        if not away.home_is_dead:
            # A copy that was not given goes with it, and the home need not be told twice.
            self._end([Send(home_of(identity), news("unborrow", identity))])
            if away.has_copy and not away.given_to:
                self._end([Send(home_of(identity), news("dropped", identity))])
        return self._endings_due()

    def _take_back(self, op: str, identity: bytes) -> bool:
        """Don't send an ending that was not sent yet; False if there is none."""
        ending = Send(home_of(identity), news(op, identity))
        if ending in self._endings:
            self._endings.remove(ending)
            return True
        return False

    def _end(self, endings: Iterable[Send]) -> None:
        self._endings += [ending for ending in endings if ending.node not in self._dead]

    def _endings_due(self) -> list[Instruction]:
        if self._unacknowledged or not self._endings:
            return []
        endings, self._endings = self._endings, []
        return list(endings)

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        held: dict[int, int] = {}
        for waiting in self._unacknowledged.values():
            for process in waiting:
                held[process] = held.get(process, 0) + 1
        assert held == self._held, (held, self._held)
        for identity, home in self._home.items():
            assert home_of(identity) == self.here, identity
            assert self.here not in home.copies | home.borrowers | home.wanters, identity
            assert not (home.copies | home.borrowers | home.wanters) & self._dead, identity
        for identity, away in self._away.items():
            assert home_of(identity) != self.here, identity
            assert not (away.pulls and away.has_copy), identity
            assert away.home_is_dead == (home_of(identity) in self._dead), identity
        assert not self._endings or self._unacknowledged
