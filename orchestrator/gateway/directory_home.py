"""The half of the directory about objects of ours: where the bytes are, and which nodes borrow them. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.common.ids import home_of
from orchestrator.gateway.broadcast import Assigned, Broadcast
from orchestrator.gateway.broadcast import Instruction as Placement
from orchestrator.gateway.directory_peers import Peers
from orchestrator.gateway.directory_records import (
    ABSENT,
    CREATED,
    FREED,
    GONE,
    HERE,
    LOST,
    OWNER_DIED,
    PENDING,
    SPREAD_BYTES_MIN,
    VERDICTS,
    HomeRecord,
    Instruction,
    Keep,
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


class HomeObjects:
    """What a `Directory` is as the home of its node's objects."""

    def __init__(self, here: int, peers: Peers) -> None:
        self.here = here
        self._peers = peers
        self._home: dict[bytes, HomeRecord] = {}

    def copies(self, identity: bytes) -> tuple[list[int], int]:
        """Return on which other nodes an object of ours is, and its size in bytes; 0 if that is not known."""
        home = self._home.get(identity)
        return (sorted(home.copies), home.size_bytes) if home is not None else ([], 0)

    def _others_would_miss_ours(self) -> bool:
        return any((home.borrowers | home.wanters) - home.copies for home in self._home.values())

    # ------------------------------------------------------------ what processes of this node say

    def keep(self, identity: bytes) -> list[Instruction]:
        """An object of ours matters elsewhere though nobody there refers to it: say when it is `released`."""
        return self._home_record(identity)[1]

    def _want_ours(self, identity: bytes, state: int) -> list[Instruction]:
        # It will be sealed here, or a result of it will be reported: then it is known who waits.
        out = self._home_record(identity)[1] if state in (PENDING, CREATED) else []
        return [*out, *self._pull_ours(identity)]

    def _pull_ours(self, identity: bytes) -> list[Instruction]:
        record = self._home.get(identity)
        if record is None or record.wanted_here:
            return []
        record.wanted_here = True
        if record.copies:
            return [Pull(identity, tuple(sorted(record.copies)), record.size_bytes)]
        return []

    def _gave_ours(self, identity: bytes, owner: int, size_bytes: int, node: int) -> list[Instruction]:
        # A message too long for a channel, say: ours, and the receiver's to read.
        home, out = self._home_record(identity)
        home.given_to = owner
        home.borrowers.add(node)
        home.size_bytes = size_bytes
        return out

    # ------------------------------------------------------------ what the store and the transfer say

    def decided(self, identity: bytes, state: int, size_bytes: int = 0) -> list[Instruction]:
        """An object that was watched is sealed, or lost; `size_bytes` is what the store has of it."""
        home = self._home.get(identity)
        if home is None:
            return []
        out: list[Instruction] = []
        if state in HERE:
            home.missing = False
            home.size_bytes = size_bytes or home.size_bytes
            out += self._enter_tree(identity, home, self.here)
            out += self._tell_wanters(identity, home, is_here=True)
        elif state in VERDICTS and not home.copies and not home.missing:
            out += self._refuse_wanters(identity, home, VERDICTS[state])
        elif state in (PENDING, CREATED) and home.wanters:
            out.append(Watch(identity))
        return out + self._settle(identity, home)

    def _unneeded_ours(self, identity: bytes) -> list[Instruction]:
        home = self._home.get(identity)
        if home is None:
            return [Release(identity, 0)]
        home.is_unneeded = True
        return self._settle(identity, home)

    def _released_ours(self, identity: bytes) -> list[Instruction]:
        home = self._home.pop(identity, None)
        if home is None:
            return []
        out: list[Instruction] = [StopPull(identity)] if home.wanted_here else []
        self._peers.end(Send(node, news("free", identity)) for node in sorted(home.copies))
        wanters = home.wanters | set(home.spread.waiting if home.spread is not None else ())
        return [*out, *(Send(node, lost(identity, GONE)) for node in sorted(wanters))]

    def _pulled_ours(self, identity: bytes) -> list[Instruction]:
        home = self._home.get(identity)
        if home is None:
            return []
        home.wanted_here = False
        out = self._enter_tree(identity, home, self.here)
        out += self._tell_wanters(identity, home, is_here=True)
        return [*out, *self._free_leaving(identity, home)]

    def _not_pulled_ours(self, identity: bytes, without: Iterable[int]) -> list[Instruction]:
        home = self._home.get(identity)
        if home is None:
            return []
        home.wanted_here = False
        out: list[Instruction] = []
        for node in without:
            out += self._copy_gone(identity, home, node)
        return [*out, *self._pull_ours(identity)]

    def _give_up_ours(self, identity: bytes) -> None:
        home = self._home.get(identity)
        if home is not None:
            home.wanted_here = False

    # ------------------------------------------------------------ what other nodes say

    def on_stored(self, node: int, identity: bytes, size_bytes: int, state: int) -> list[Instruction]:
        """A result of a process of ours lies on another node; `state` is what the store says now."""
        if state in (ABSENT, LOST, FREED):
            # Nobody waits for it any more.
            self._peers.end([Send(node, news("free", identity))])
            return self._peers.endings_due()
        home, out = self._home_record(identity)
        home.size_bytes = size_bytes
        out += self._has_copy(identity, home, node)
        if home.wanted_here and state not in HERE:
            out.append(Pull(identity, tuple(sorted(home.copies)), size_bytes))
        out += self._tell_wanters(identity, home, is_here=state in HERE)
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
        return self._want_no_more(identity, home, node)

    def on_unwanted(self, node: int, identity: bytes) -> list[Instruction]:
        """A node does not want the bytes any more that it had asked for."""
        home = self._home.get(identity)
        return self._want_no_more(identity, home, node) if home is not None else []

    def _want_no_more(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        home.wanters.discard(node)
        out = self._place(identity, home, home.spread.unwanted(node)) if home.spread is not None else []
        return [*out, *self._settle(identity, home)]

    def on_want(self, node: int, identity: bytes, state: int, size_bytes: int = 0) -> list[Instruction]:
        """A node wants the bytes of an object of ours; `state` and `size_bytes` are what the store says."""
        home = self._home.get(identity)
        if state in VERDICTS and (home is None or not (home.copies or home.missing)):
            return [Send(node, lost(identity, VERDICTS[state]))]
        home, out = self._home_record(identity)
        home.size_bytes = size_bytes or home.size_bytes
        # Should it have had a copy, that has gone, and the word of it may come later.
        out += self._copy_gone(identity, home, node)
        return [*out, *self._direct(identity, home, node, is_here=state in HERE)]

    def on_copied(self, node: int, identity: bytes, state: int) -> list[Instruction]:
        """A node has a copy of an object of ours; `state` is what the store says of it here."""
        home = self._home.get(identity)
        if home is None:
            self._peers.end([Send(node, news("free", identity))])
            return self._peers.endings_due()
        return [
            *self._has_copy(identity, home, node),
            *self._tell_wanters(identity, home, is_here=state in HERE),
        ]

    def on_dropped(self, node: int, identity: bytes) -> list[Instruction]:
        """A node has a copy no longer."""
        home = self._home.get(identity)
        return self._copy_gone(identity, home, node) if home is not None else []

    def on_stale(self, node: int, identity: bytes, without: Iterable[int]) -> list[Instruction]:
        """A node could not have the bytes from those that we had named."""
        home = self._home.get(identity)
        out: list[Instruction] = []
        for one in without:
            if home is not None and home.spread is not None:
                out += self._place(identity, home, home.spread.failed(node, one))
            if home is not None and one != self.here:
                out += self._copy_gone(identity, home, one)
        return out

    # ------------------------------------------------------------ nodes that leave, and deaths

    def _rescue_ours(self, node: int, state_of: Callable[[bytes], int]) -> list[Instruction]:
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            if node in home.copies:
                out += self._rescue(identity, home, state_of(identity))
        return out

    def _rescue(self, identity: bytes, home: HomeRecord, state: int) -> list[Instruction]:
        """Bring an object of ours here, if it lies only on nodes that leave."""
        if not home.copies or not home.copies <= self._peers.draining:
            return []
        if state in HERE:
            return self._free_leaving(identity, home)
        return self._pull_ours(identity)

    def _free_leaving(self, identity: bytes, home: HomeRecord) -> list[Instruction]:
        """The bytes are here: nodes that leave need not keep theirs."""
        leaving = home.copies & self._peers.draining
        home.copies -= leaving
        out = [one for node in sorted(leaving) for one in self._leave_tree(identity, home, node)]
        self._peers.end(Send(node, news("free", identity)) for node in sorted(leaving))
        return [*out, *self._peers.endings_due()] if leaving else []

    def _forget_node(self, node: int) -> list[Instruction]:
        """A node is dead: what it borrowed is given back, its copies are gone."""
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            home.borrowers.discard(node)
            home.wanters.discard(node)
            out += self._leave_tree(identity, home, node)
            out += self._copy_gone(identity, home, node)
            out += self._settle(identity, home)
        return out

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
                out += self._settle(identity, home)
        return out

    def _forget_stand_in_of_ours(self, address: int, node: int) -> list[Instruction]:
        out: list[Instruction] = []
        for identity, home in list(self._home.items()):
            if home.given_to == address:
                home.given_to = 0
                home.borrowers.discard(node)
                out += self._settle(identity, home)
        return out

    # ------------------------------------------------------------ inside

    def _home_record(self, identity: bytes) -> tuple[HomeRecord, list[Instruction]]:
        record = self._home.get(identity)
        if record is not None:
            return record, []
        record = self._home[identity] = HomeRecord()
        return record, [Keep(identity)]

    def _settle(self, identity: bytes, home: HomeRecord) -> list[Instruction]:
        """Let an object of ours go that nobody elsewhere refers to: to the store, or for good."""
        if home.borrowers or home.wanters:
            return []
        if home.is_unneeded:
            home.is_unneeded = False  # should the store find that it is needed again, it will say so again
            return [Release(identity, home.given_to)]
        return []

    def _has_copy(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        home.copies.add(node)
        home.wanters.discard(node)
        home.missing = False
        return self._enter_tree(identity, home, node)

    def _copy_gone(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        if node not in home.copies:
            return []
        home.copies.remove(node)
        out = self._leave_tree(identity, home, node)
        if home.copies or home.missing:
            return out
        # Maybe the bytes are here; the owner's node finds that out when it performs this.
        home.missing = True
        return [*out, Missing(identity)]

    # ------------------------------------------------------------ who gets it from whom

    def _tell_wanters(self, identity: bytes, home: HomeRecord, *, is_here: bool) -> list[Instruction]:
        wanters, home.wanters = home.wanters, set()
        return [
            one for node in sorted(wanters) for one in self._direct(identity, home, node, is_here=is_here)
        ]

    def _direct(self, identity: bytes, home: HomeRecord, node: int, *, is_here: bool) -> list[Instruction]:
        """Tell a node where to get the bytes; or have it wait, if nobody has them."""
        sources = [*([self.here] if is_here else []), *sorted(home.copies - {node})]
        if not sources:
            home.wanters.add(node)
            return [Watch(identity)]
        if home.size_bytes <= SPREAD_BYTES_MIN:
            return [self._located(identity, home, node, sources)]
        spread = home.spread = home.spread or Broadcast(home.size_bytes)
        placed: list[Placement] = []
        for one in sources:
            placed += spread.copied(one)
        for one in spread.roots:
            if one not in sources:
                placed += spread.gone(one)
        return self._place(identity, home, [*placed, *spread.wanted(node)])

    def _enter_tree(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        return self._place(identity, home, home.spread.copied(node)) if home.spread is not None else []

    def _leave_tree(self, identity: bytes, home: HomeRecord, node: int) -> list[Instruction]:
        return self._place(identity, home, home.spread.gone(node)) if home.spread is not None else []

    def _place(self, identity: bytes, home: HomeRecord, placed: Iterable[Placement]) -> list[Instruction]:
        out: list[Instruction] = []
        for one in placed:
            if isinstance(one, Assigned):
                out.append(self._located(identity, home, one.node, [one.source, *one.others]))
            else:
                home.wanters.add(one.node)
                out.append(Watch(identity))
        if home.spread is not None and not home.spread.receivers:
            home.spread = None
        return out

    def _located(self, identity: bytes, home: HomeRecord, node: int, sources: list[int]) -> Send:
        return Send(node, news("located", identity) | {"nodes": sources, "size": home.size_bytes})

    def _refuse_wanters(self, identity: bytes, home: HomeRecord, verdict: str) -> list[Instruction]:
        wanters, home.wanters = home.wanters, set()
        if home.spread is not None:
            wanters |= set(home.spread.waiting)
            home.spread = None
        return [Send(node, lost(identity, verdict)) for node in sorted(wanters)]

    def _validate_ours(self) -> None:
        for identity, home in self._home.items():
            assert home_of(identity) == self.here, identity
            assert self.here not in home.copies | home.borrowers | home.wanters, identity
            assert not (home.copies | home.borrowers | home.wanters) & self._peers.dead, identity
            assert not home.wanters & home.copies, identity
            if home.spread is not None:
                home.spread.validate()
                assert home.spread.receivers, identity
                assert not {*home.spread.roots, *home.spread.receivers} & self._peers.dead, identity
