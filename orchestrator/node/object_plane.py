"""Performs what the directory says about objects of other nodes, with the store and the links.

Objects up to `IN_BAND_BYTES_MAX` come over the link itself, a piece at a time and never more than a link
takes without congestion. Larger ones come by the object service, where there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.common.ids import process_of
from orchestrator.common.priority import GET, Priority
from orchestrator.gateway import directory as directories
from orchestrator.gateway import frames
from orchestrator.gateway.directory import Directory, Instruction
from orchestrator.gateway.directory_records import SPREAD_BYTES_MIN
from orchestrator.gateway.spare_copies import LOOK_S, SpareCopies
from orchestrator.node.store_errors import (
    UNREADABLE,
    NotOwnerError,
    ObjectExistsError,
    ObjectStoreFullError,
    PeerDiedError,
    TableFullError,
)

if TYPE_CHECKING:
    from orchestrator.gateway.gateway import Gateway
    from orchestrator.gateway.link import Links
    from orchestrator.gateway.stand_ins import StandIns
#: Of a piece of an object in a frame.
PIECE_BYTES = 512 * 1024
#: Larger objects have connections of their own.
IN_BAND_BYTES_MAX = SPREAD_BYTES_MIN
#: Bytes of objects on a link beside messages: more would make those wait.
AHEAD_BYTES = 4 << 20
#: How long a pull waits for room in a full store, and how often it looks.
ROOM_TIMEOUT_S = 60.0
ROOM_PAUSE_S = 0.05
#: Objects of which the store says at once that nobody needs them.
UNNEEDED_PER_TURN = 1024


class Transfer(Protocol):
    """The object service, as it is needed here."""

    def pull(self, identity: bytes, sources: Sequence[int], size_bytes: int, priority: Priority) -> None:
        """Bring an object here; `ObjectPlane.arrived` or `failed` is called when that has come to an end."""
        ...

    def hasten(self, identity: bytes, priority: Priority) -> None:
        """An object that may be on its way is wanted for something more urgent."""
        ...

    def cancel(self, identity: bytes) -> None:
        """Give up."""
        ...


class _Pull:
    """An object on its way over a link."""

    __slots__ = ("allocation", "arrived_bytes", "sources", "tried", "view")

    def __init__(self, sources: Iterable[int]) -> None:
        self.sources = deque(sources)
        self.tried: list[int] = []
        self.allocation: Any = None
        self.view: memoryview | None = None
        self.arrived_bytes = 0


class ObjectPlane:
    """See the module's text."""

    def __init__(
        self,
        session: str,
        store: Any,
        stand_ins: StandIns,
        links: Links,
        *,
        here: int,
        tell: Callable[[int, dict[str, Any]], None],
        tell_process: Callable[[int, dict[str, Any]], bool],
        tell_all: Callable[[dict[str, Any]], None],
        complain: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self.directory = Directory(here)
        self.transfer: Transfer | None = None
        #: called with each object of this node that nobody needs any more, anywhere
        self.on_released: Callable[[bytes], None] = lambda identity: None
        #: set by whoever makes both
        self.gateway: Gateway
        self._session = session
        self._store = store
        self._stand_ins = stand_ins
        self._links = links
        self._here = here
        self._tell = tell
        self._tell_process = tell_process
        self._tell_all = tell_all
        self.complain = complain
        self._now = now
        self._watched: dict[bytes, None] = {}
        self._pulls: dict[bytes, _Pull] = {}
        #: pulls that wait for room in the store: when to look again, and when to give up
        self._roomless: dict[bytes, tuple[float, float]] = {}
        #: objects on their way out: (node, object, buffer, offset of the next piece)
        self._serving: deque[tuple[int, bytes, Any, int]] = deque()
        #: kept objects that nobody here needed when they were looked at last
        self._unneeded: deque[bytes] = deque()
        #: what the bytes that are wanted here are wanted for
        self._priorities: dict[bytes, Priority] = {}
        #: objects that nobody needs any more, and of whose arrival we are about to hear
        self._arriving: set[bytes] = set()
        #: copies that nobody here needs, and that stay while there is room
        self._spares = SpareCopies(store.size_bytes)

    # ------------------------------------------------------------ what processes of this node say

    def borrow(self, process: int, identity: bytes) -> None:
        """A process has got a reference."""
        self._spares.remove(identity)
        self.perform(self.directory.borrow(process, identity))

    def want(self, identity: bytes, priority: Priority = GET) -> None:
        """A process waits for the bytes."""
        known = self._priorities.setdefault(identity, priority)
        if priority < known:
            self._priorities[identity] = priority
            if self.transfer is not None:
                self.transfer.hasten(identity, priority)
        self.perform(self.directory.want(identity, self._store.state(identity)))

    def abandon(self, identity: bytes) -> None:
        """Nobody will store an object of this node that was promised: whoever waits for it hears that."""
        if self._store.state(identity) not in directories.HERE:
            self._store.abandon(identity)
            self.perform(self.directory.decided(identity, self._store.state(identity)))

    def gave(self, identity: bytes, owner: int, size_bytes: int) -> None:
        """A worker has stored an object for a process of another node."""
        one = self._stand_ins.at(owner)
        self._spares.remove(identity)
        if one is not None:
            self.perform(self.directory.gave(identity, owner, size_bytes, one.process.node))

    # ------------------------------------------------------------ what other nodes say

    def on_news(self, node: int, op: str, message: dict[str, Any]) -> None:
        """Handle what another node says about an object."""
        identity = bytes.fromhex(message["object"])
        directory, store = self.directory, self._store
        match op:
            case "stored":
                self.perform(self._on_stored(node, identity, message["size"]))
            case "borrow":
                self.perform(directory.on_borrow(node, identity, store.state(identity)))
            case "borrowed":
                self.perform(directory.on_borrowed(node, identity))
            case "unknown":
                self.perform(directory.on_unknown(node, identity, str(message["verdict"])))
            case "unborrow":
                self.perform(directory.on_unborrow(node, identity))
            case "want":
                size_bytes = store.size_of(identity) or 0
                self.perform(directory.on_want(node, identity, store.state(identity), size_bytes))
            case "unwanted":
                self.perform(directory.on_unwanted(node, identity))
            case "located":
                self.perform(directory.on_located(node, identity, message["nodes"], message["size"]))
            case "lost":
                self.perform(directory.on_lost(node, identity, str(message["verdict"])))
            case "copied":
                self.perform(directory.on_copied(node, identity, store.state(identity)))
            case "dropped":
                self.perform(directory.on_dropped(node, identity))
            case "stale":
                self.perform(directory.on_stale(node, identity, message["nodes"]))
            case "free":
                self.perform(directory.on_free(node, identity))
            case "fetch":
                self._serve(node, identity)
            case "no_copy":
                self._next_source(identity, node)

    def _on_stored(self, node: int, identity: bytes, size_bytes: int) -> list[Instruction]:
        owner = process_of(self._session, identity).address
        try:
            # The owner's reference, as if the object had been stored here.
            self._store.declare(identity, owner=owner)
        except (PeerDiedError, ObjectExistsError, TableFullError) as error:
            if self._store.state(identity) == directories.ABSENT:
                self.complain(f"object {identity.hex()} of node {node} is given up: {error}")
        return self.directory.on_stored(node, identity, size_bytes, self._store.state(identity))

    # ------------------------------------------------------------ deaths

    def node_died(self, node: int) -> None:
        """A node is dead."""
        self._serving = deque(item for item in self._serving if item[0] != node)
        for identity, pull in list(self._pulls.items()):
            if pull.sources and pull.sources[0] == node:
                self._next_source(identity, node)
        self.perform(self.directory.node_died(node))

    def process_died(self, prefix: bytes) -> None:
        """A process of this node is dead, and the store has been told."""
        self.perform(self.directory.owner_died(lambda one: one.startswith(prefix), self._store.state))

    def stand_in_gone(self, address: int, node: int) -> None:
        """A process of another node is dead."""
        self.perform(self.directory.stand_in_gone(address, node))

    # ------------------------------------------------------------ performing

    def perform(self, instructions: Iterable[Instruction]) -> None:
        """Do what the directory says."""
        todo = deque(instructions)
        store = self._store
        while todo:
            instruction = todo.popleft()
            match instruction:
                case directories.Send(node, message):
                    self._tell(node, message)
                case directories.Keep(identity):
                    if store.keep(identity) in (directories.ABSENT, directories.FREED):
                        todo.extend(self.directory.released(identity))  # it is gone already
                    elif not store.is_needed(identity):
                        self._unneeded.append(identity)
                case directories.Retain(identity):
                    self._spares.add(identity, store.size_of(identity) or 0, self._now())
                case directories.Release(identity, given_to):
                    if self._unkeep(identity):
                        self._spares.remove(identity)
                        self._priorities.pop(identity, None)
                        self._arriving.discard(identity)
                        self._drop_given(identity, given_to)
                        if identity in self._watched:
                            del self._watched[identity]
                            store.unwatch(identity)  # a watch keeps a promise that nobody needs
                        todo.extend(self.directory.released(identity))
                        self.on_released(identity)
                case directories.Watch(identity):
                    self._watched[identity] = None
                    store.watch(identity)
                case directories.Pull(identity, sources, size_bytes):
                    self._pull(identity, sources, size_bytes)
                case directories.StopPull(identity):
                    self._stop_pull(identity)
                case directories.Lose(identity, why):
                    self._priorities.pop(identity, None)
                    # In this order: who sees that it is lost has heard why.
                    self._tell_all({"op": "lost_object", "object": identity.hex(), "why": why})
                    store.abandon(identity)
                case directories.Missing(identity):
                    todo.extend(self._missing(identity))
                case directories.LetGo(process):
                    self.gateway.let_go(process)

    def _unkeep(self, identity: bytes) -> bool:
        try:
            return bool(self._store.unkeep_if_unneeded(identity))
        except NotOwnerError:
            return True  # it is not kept any more

    def _drop_given(self, identity: bytes, given_to: int) -> None:
        one = self._stand_ins.at(given_to)
        if one is not None:
            try:
                one.store.drop_ref(identity)
            except NotOwnerError:
                pass  # it holds none any more

    def _missing(self, identity: bytes) -> list[Instruction]:
        state = self._store.state(identity)
        if state in (directories.SEALED, directories.SPILLED):
            return self.directory.decided(identity, state, self._store.size_of(identity) or 0)
        process = process_of(self._session, identity)
        if self._tell_process(process.address, {"op": "missing", "object": identity.hex()}):
            return []
        return self.directory.owner_died(lambda one: one == identity, self._store.state)

    # ------------------------------------------------------------ bringing bytes here

    def _pull(self, identity: bytes, sources: Sequence[int], size_bytes: int) -> None:
        if self.transfer is not None and size_bytes > IN_BAND_BYTES_MAX:
            priority = self._priorities.get(identity, GET)
            self.transfer.pull(identity, sources, size_bytes, priority)
            return
        self._pulls[identity] = _Pull(sources)
        self._tell(sources[0], {"op": "fetch", "object": identity.hex()})

    def _next_source(self, identity: bytes, node: int) -> None:
        pull = self._pulls.get(identity)
        if pull is None or not pull.sources or pull.sources[0] != node:
            return
        pull.tried.append(pull.sources.popleft())
        self._drop_buffer(pull)
        if pull.sources:
            self._tell(pull.sources[0], {"op": "fetch", "object": identity.hex()})
        else:
            del self._pulls[identity]
            self._roomless.pop(identity, None)
            self.failed(identity, pull.tried, "it is not there")

    def _drop_buffer(self, pull: _Pull) -> None:
        pull.view = pull.allocation = None
        pull.arrived_bytes = 0

    def _stop_pull(self, identity: bytes) -> None:
        pull = self._pulls.pop(identity, None)
        self._roomless.pop(identity, None)
        if pull is not None:
            self._drop_buffer(pull)
        elif self.transfer is not None:
            self.transfer.cancel(identity)

    def on_data(self, node: int, frame: frames.Frame) -> None:
        """A piece of an object has arrived."""
        pull = self._pulls.get(frame.object)
        if pull is None or not pull.sources or pull.sources[0] != node:
            return  # it was given up
        if frame.target != pull.arrived_bytes or pull.arrived_bytes + len(frame.payload) > frame.source:
            if pull.arrived_bytes or frame.target:
                return  # the rest of one that began when there was no room
            self._next_source(frame.object, node)
            return
        if pull.allocation is None and not self._make_buffer(frame.object, pull, frame.source):
            return
        if pull.view is not None:
            pull.view[frame.target : frame.target + len(frame.payload)] = frame.payload
        pull.arrived_bytes += len(frame.payload)
        if pull.arrived_bytes == frame.source:
            assert pull.allocation is not None
            pull.view = None
            pull.allocation.seal()
            del self._pulls[frame.object]
            self.arrived(frame.object)

    def _make_buffer(self, identity: bytes, pull: _Pull, size_bytes: int) -> bool:
        try:
            pull.allocation = self._store.create_buffer(identity, size_bytes)
            pull.view = memoryview(pull.allocation)
        except (ObjectExistsError, ObjectStoreFullError) as error:
            if self._store.contains(identity):
                self._pulls.pop(identity, None)
                self.arrived(identity)
                return False
            # No room, or somebody else makes it. What still comes of this attempt is passed over.
            now_s = self._now()
            _, end_s = self._roomless.get(identity, (0.0, now_s + ROOM_TIMEOUT_S))
            if now_s >= end_s:
                self.complain(f"object {identity.hex()} can't come here: {error}")
                self._pulls.pop(identity, None)
                self._roomless.pop(identity, None)
                self.impossible(identity, f"there is no room for it here: {error}")
                return False
            self._roomless[identity] = (now_s + ROOM_PAUSE_S, end_s)
            return False
        self._roomless.pop(identity, None)
        return True

    def arrived(self, identity: bytes) -> None:
        """An object is sealed here."""
        self._priorities.pop(identity, None)
        self.perform(self.directory.pulled(identity))
        self._pull_ended(identity)

    def impossible(self, identity: bytes, why: str) -> None:
        """An object can't be had here, wherever it is: there is no room for it."""
        self.perform(self.directory.pull_impossible(identity, why))
        self._pull_ended(identity)

    def failed(self, identity: bytes, without: Sequence[int], why: str) -> None:
        """An object could not be brought here from any of these nodes."""
        self.perform(self.directory.pull_failed(identity, without, why))
        self._pull_ended(identity)

    def _pull_ended(self, identity: bytes) -> None:
        if identity in self._arriving:
            self._arriving.remove(identity)
            self._unneeded.append(identity)

    # ------------------------------------------------------------ sending bytes

    def _serve(self, node: int, identity: bytes) -> None:
        try:
            buffer = self._store.try_get(identity)
        except UNREADABLE:
            buffer = None
        if buffer is None:
            self._tell(node, {"op": "no_copy", "object": identity.hex()})
        else:
            self._serving.append((node, identity, memoryview(buffer), 0))
            self.go_on()

    def go_on(self) -> bool:
        """Send pieces of what is being sent, as far as links allow; True if something is left."""
        for _ in range(len(self._serving)):
            node, identity, view, offset = self._serving.popleft()
            size = len(view)
            while self._links.waiting_bytes(node) < AHEAD_BYTES:
                piece = view[offset : offset + PIECE_BYTES]
                self._links.send(node, frames.data(identity, size, offset, piece))
                offset += len(piece)
                if offset >= size:
                    break
            if offset < size:
                self._serving.append((node, identity, view, offset))
        return bool(self._serving)

    # ------------------------------------------------------------ time

    def look(self) -> None:
        """Ask the store what has become of what is watched and kept. Called when its bell has rung."""
        store = self._store
        for identity in list(self._watched):
            state = store.state(identity)
            if state not in (directories.PENDING, directories.CREATED):
                del self._watched[identity]
                self.perform(self.directory.decided(identity, state, store.size_of(identity) or 0))
        self._unneeded += store.take_unneeded(UNNEEDED_PER_TURN)
        if not self._unneeded or not self.gateway.read_control():
            return
        # What processes have said before is known now: who has let an object go that contained references
        # has said first that it borrows these.
        for _ in range(len(self._unneeded)):
            identity = self._unneeded.popleft()
            if store.is_needed(identity):
                continue
            if self.directory.pulls(identity) and store.state(identity) in directories.HERE:
                self._arriving.add(identity)
            else:
                self.perform(self.directory.unneeded(identity))
        self._trim()

    def _trim(self) -> None:
        """Let spare copies go that are in the way."""
        if self._spares:
            free_bytes = self._store.stats(objects=False)["free_bytes"]
            for identity in self._spares.take_due(self._now(), free_bytes):
                self.perform(self.directory.drop(identity))

    def drop_spares(self) -> None:
        """Let all spare copies go: the machine is short of memory."""
        for identity in self._spares.take_all():
            self.perform(self.directory.drop(identity))

    def tick(self) -> float:
        """Do what is due; return the seconds until the next call is."""
        self._trim()
        now_s = self._now()
        for identity, (due_s, _) in list(self._roomless.items()):
            pull = self._pulls.get(identity)
            if pull is None or not pull.sources:
                del self._roomless[identity]
            elif due_s <= now_s:
                self._roomless[identity] = (now_s + ROOM_PAUSE_S, self._roomless[identity][1])
                self._drop_buffer(pull)
                self._tell(pull.sources[0], {"op": "fetch", "object": identity.hex()})
        if self._roomless:
            return ROOM_PAUSE_S
        return LOOK_S if self._spares else 60.0
