"""Who holds what: how an object of this process becomes one that other processes can hold.

Most objects never leave their owner's heap. One that is serialized into something else is
*promoted*: it enters the shared table, where references are counted per process. From then on

* the owner's entry has a `Hold`: one counted reference;
* the thing it was serialized into holds it: a stored object by its list of contained ids, a task's
  arguments because the submitter keeps them until the reply;
* whoever deserializes it becomes a borrower, with an entry and a `Hold` of its own.

A reference pickled by anything but this package cannot be followed; it is pinned until the
process that pickled it ends.
"""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import home_of
from orchestrator.common.priority import GET, Priority
from orchestrator.core.entry import BLOB, ERROR, PENDING, STORED, Entry
from orchestrator.core.failures import see
from orchestrator.core.messages import PROTOCOL
from orchestrator.core.part import Part
from orchestrator.core.values import StoredError, dump_error
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Hold, StoreLink

if TYPE_CHECKING:
    from orchestrator.objects.plasma_adapter import Store


#: Reasons that are known to concern the owner.
_LOST: dict[str, type[exceptions.OrchestratorError]] = {
    "owner died": exceptions.OwnerDiedError,
    "node died": exceptions.OwnerDiedError,
    "freed": exceptions.ObjectFreedError,
}
#: The references inside a value without any.
_NOTHING: list[bytes] = []
#: States of an object whose bytes are on this node.
_HERE = (objects.SEALED, objects.SPILLED)
#: Reasons that are remembered.
REASONS_MAX = 1000
#: How often a reference is tried to be taken to a copy that goes just then. Once more would be enough, as it
#: has gone by then, if others did not take and give back references between any two looks.
TAKE_ATTEMPTS = 5


class Gathering(threading.local):
    """The references met while this thread serializes something; None when nobody asked.

    Whatever was met is also kept alive by being listed here.
    """

    #: what was met: anything with a `hold`
    met: list[Any] | None = None


class MissingObject(Exception):
    """The object of an entry is in the store no more. Never seen by users."""


def entry_of(hold: Hold) -> Entry:
    """Return an entry of an object that is in the store, and held."""
    entry = Entry(hold.object_id, STORED)
    entry.hold = hold
    return entry


class References(Part):
    """Promotion, borrowing and waiting for borrowed objects, of one process."""

    def __init__(
        self,
        store: Store,
        id_of: Callable[[Entry], bytes],
        here: int = 0,
        tell_node: Callable[[dict[str, Any]], None] = lambda message: None,
    ) -> None:
        self._store = store
        #: index of this node; 0 in a private session: then no object is anywhere else
        self._here = here
        self._tell_node = tell_node
        self.link = StoreLink(store)
        self.id_of = id_of
        self.gathering = Gathering()
        self._lock = threading.RLock()
        #: entries of this process's own objects that are in the shared table, for when a reference comes
        #: back, and for when one is lost
        self._own: weakref.WeakValueDictionary[bytes, Entry] = weakref.WeakValueDictionary()
        #: what is in it, without a function of Python's around each look
        self._own_refs: dict[bytes, weakref.ref[Entry]] = self._own.data  # type: ignore[attr-defined]
        #: borrowed entries somebody here waits for, by id
        self._watched: dict[bytes, Entry] = {}
        #: those of them whose bytes are less urgent than for a `get`
        self._patient: dict[bytes, Priority] = {}
        self._next_scan_s = 0.0
        #: what the node has said about objects that can't be had here, the last few
        self.reasons: dict[bytes, str] = {}
        #: what to do about an entry whose object is missing; see lineage.py
        self.recover: Callable[[Entry], None] = lambda entry: None
        #: references pickled by others, held until the process ends
        self._pinned: list[Hold] = []

    # -- giving away

    def promote(self, entry: Entry) -> bytes:
        """Make the object known to the node and return its id.

        Raises:
            ObjectStoreFullError: its value is here and there is no room for it.
        """
        identity = self.id_of(entry)
        if entry.hold is not None:
            return identity
        with self._lock:
            if entry.hold is not None:
                return identity
            if entry.state == PENDING:
                self._store.declare(identity)
                entry.hold = Hold(self.link, identity)
                # The result may have come meanwhile, and its completion seen no hold.
                if entry.state not in (PENDING, STORED):
                    self.publish(entry)
            else:
                parts = self._parts_of(entry)
                objects.put_parts(self._store, identity, parts)
                entry.hold = Hold(self.link, identity)
            self._own[identity] = entry
        return identity

    def publish(self, entry: Entry) -> None:
        """Store the value of an entry that was promoted before it was produced."""
        hold = entry.hold
        if hold is None:
            return
        with self._lock:
            if self._store.state(hold.object_id) >= objects.CREATED:
                return
            try:
                # Declared before, so the reference is counted already.
                self._store.put_parts(hold.object_id, self._parts_of(entry))
            except objects.ObjectExistsError:
                pass
            except objects.PlasmaError:
                self._store.abandon(hold.object_id)

    def _parts_of(self, entry: Entry) -> list[Any]:
        if entry.state == BLOB:
            return [entry.value]
        if entry.state == ERROR:
            error = see(entry.value)
            blob = error if type(error) is bytes else dump_error(error)
            return objects.encode(StoredError(blob)).parts
        return objects.encode(entry.value).parts

    def adopt(self, entry: Entry, identity: bytes) -> None:
        """Take over the reference a worker recorded for this process when it stored a result."""
        # The table keeps one reference per client and object, declared or put. So there may be one hold of
        # it, though another thread promotes the entry at this moment.
        with self._lock:
            if entry.hold is None:
                entry.hold = Hold(self.link, identity)
            self._own[identity] = entry

    def give_back(self, entry: Entry) -> None:
        """Give back the reference that a worker may have recorded for this process, unless it is held."""
        with self._lock:
            if entry.hold is None:
                self.release(self.id_of(entry))

    def own(self, identity: bytes) -> Entry | None:
        """Return the entry of an object of this process's own that is in the table, while it is alive."""
        return self._own.get(identity)

    def take(self, identity: bytes) -> Entry | None:
        """Return a new entry of an object of this process's own whose entry has gone; None if both have."""
        if not self._store.add_ref(identity):
            return None
        entry = Entry(int.from_bytes(identity[8:], "big"))
        entry.hold = Hold(self.link, identity)
        if self._settle(entry, self._store.state(identity)):
            self._own[identity] = entry
            return entry
        return None

    def release(self, identity: bytes) -> None:
        """Give back a reference that was recorded for this process and that nothing here will use."""
        try:
            self._store.drop_ref(identity)
        except objects.PlasmaError:
            pass

    def pin(self, entry: Entry) -> bytes:
        """Promote for a serialization nobody follows: the object lives as long as this process."""
        identity = self.promote(entry)
        if self._store.add_ref(identity):
            self._pinned.append(Hold(self.link, identity))
        return identity

    def pin_hold(self, hold: Hold) -> None:
        """Like `pin`, for what is in the store already."""
        if self._store.add_ref(hold.object_id):
            self._pinned.append(Hold(self.link, hold.object_id))

    # -- receiving

    def borrow(self, identity: bytes) -> Entry:
        """Return the entry of a reference that came from elsewhere."""
        known = self.receive(identity)
        return known if isinstance(known, Entry) else entry_of(known)

    def receive(self, identity: bytes) -> Entry | Hold:
        """Take a reference that came from elsewhere: return its entry, or a hold if it is here."""
        known = self._own_refs.get(identity)
        if known is not None and (entry := known()) is not None:
            return entry
        if self._here and self.is_foreign(identity):
            return self._borrow_foreign(identity)
        state = self._store.take_ref(identity)
        if state in _HERE:  # of many references in one object, most are
            return Hold(self.link, identity)
        entry = Entry(identity)
        if state == objects.ABSENT:
            return self._miss(entry)
        entry.hold = Hold(self.link, identity)
        self._settle(entry, state)
        return entry

    def _borrow_foreign(self, identity: bytes) -> Entry:
        entry = Entry(identity)
        if not self.take_ref(identity):
            return self._miss(entry)
        entry.hold = Hold(self.link, identity)
        self._settle(entry, self._store.state(identity))
        self._own[identity] = entry  # so that the node is told once
        return entry

    def _miss(self, entry: Entry) -> Entry:
        """Gone; or lost, and somebody who still holds it will have it made again."""
        entry.state = STORED
        self.recover(entry)
        return entry

    def take_ref(self, identity: bytes) -> bool:
        """Take a counted reference to an object made elsewhere; False if it is gone.

        One of another node the table may never have heard of; its node is told that it is needed here.
        """
        if not self.is_foreign(identity):
            return self._store.add_ref(identity)
        taken = False
        for _ in range(TAKE_ATTEMPTS):
            # The table knows it from here on. A copy that is here was known before, and may go at this
            # moment, as the last process that needed it has ended with it: the next look finds nothing, and
            # has it promised anew.
            self._store.watch(identity)
            taken = self._store.add_ref(identity)
            self._store.unwatch(identity)
            if taken:
                break
        self._tell_node({"op": "borrow", "object": identity.hex()})
        return taken

    def _settle(self, entry: Entry, state: int) -> bool:
        """Complete a borrowed entry from its state in the table; False while that is undecided."""
        if state in _HERE:
            entry.complete(STORED, None)
        elif state == objects.LOST and (why := self.reasons.get(self.id_of(entry))):
            text = f"object {self.id_of(entry).hex()} can't be had on this node: {why}"
            entry.complete(ERROR, _LOST.get(why, exceptions.ObjectLostError)(text))
        elif state == objects.LOST:
            text = f"object {self.id_of(entry).hex()} was never produced: the process that owned it died"
            entry.complete(ERROR, exceptions.OwnerDiedError(text))
        elif state == objects.FREED:
            text = f"object {self.id_of(entry).hex()} was freed: free() was called with it"
            entry.complete(ERROR, exceptions.ObjectFreedError(text))
        elif state == objects.ABSENT:
            text = f"object {self.id_of(entry).hex()} no longer exists"
            entry.complete(ERROR, exceptions.ObjectLostError(text))
        else:
            return False
        return True

    def owner_died(self, prefix: bytes) -> None:
        """A process is dead: what is still promised in its name will not come.

        Of objects of other nodes their home says so: the bytes may be on their way.
        """
        for identity in list(self._watched):
            if identity[:8] == prefix and not self.is_foreign(identity):
                self._store.abandon(identity)

    def watch(self, entry: Entry, priority: Priority = GET) -> None:
        """See to it that a borrowed entry is completed when its owner produces it."""
        identity = entry.ident
        if entry.state or type(identity) is not bytes:
            return
        if identity in self._watched:
            if priority < self._patient.get(identity, GET):
                self._want(identity, priority)
            return
        self._watched[identity] = entry
        if self._settle(entry, self._store.watch(identity)):
            self._watched.pop(identity, None)
        elif self._here:
            # Its bytes may exist already, on another node.
            self._want(identity, priority)

    def _want(self, identity: bytes, priority: Priority) -> None:
        self._patient.pop(identity, None)
        if priority:
            self._patient[identity] = priority
        self._tell_node({"op": "want", "object": identity.hex(), "priority": int(priority)})

    def _unwatch(self, identity: bytes) -> Entry | None:
        self._patient.pop(identity, None)
        return self._watched.pop(identity, None)

    def on_lost(self, message: dict[str, Any]) -> None:
        """The node says why an object can't be had here; the store says that it can't."""
        self.reasons[bytes.fromhex(message["object"])] = message["why"]
        if len(self.reasons) > REASONS_MAX:
            del self.reasons[next(iter(self.reasons))]

    def is_foreign(self, identity: bytes) -> bool:
        """Tell whether another node keeps account of an object."""
        return self._here != 0 and home_of(identity) != self._here

    def fetch(self, entry: Entry, priority: Priority = GET) -> bool:
        """Have the bytes of a STORED entry brought here, if they are elsewhere or on their way.

        The entry is PENDING then, until they are here. False: nobody has them, or this is a private
        session, in which they can't be elsewhere.
        """
        if not self._here:
            return False
        identity = self.id_of(entry)
        if self._store.state(identity) not in (objects.PENDING, objects.CREATED):
            return False
        entry.state = PENDING
        self._watched[identity] = entry
        if self._settle(entry, self._store.watch(identity)):
            self._unwatch(identity)
        else:
            self._want(identity, priority)
        return True

    def give_up_fetching(self, identity: bytes) -> None:
        """No bytes are left anywhere of an object that was being fetched."""
        entry = self._unwatch(identity)
        if entry is not None and entry.state == PENDING:
            entry.state = STORED

    def lose(self, error: exceptions.OrchestratorError) -> None:
        """Nobody will produce the watched entries any more."""
        while self._watched:
            _, entry = self._watched.popitem()
            entry.complete(ERROR, error)

    def scan(self) -> float:
        """Complete the watched entries that were decided; seconds until this should be called again.

        A scan costs time in proportion to what is watched, and each seal rings the bell. So a scan
        is followed by a pause four times its own length, which bounds its share at a fifth.
        """
        watched = self._watched
        if not watched:
            return 60.0
        began = monotonic()
        if began < self._next_scan_s:
            return self._next_scan_s - began
        state = self._store.state
        for identity, entry in list(watched.items()):
            if self._settle(entry, state(identity)):
                self._unwatch(identity)
        ended = monotonic()
        self._next_scan_s = ended + 4 * (ended - began)
        return 60.0

    # -- values

    def is_missing(self, entry: Entry) -> bool:
        """Tell whether a STORED entry's object is in the store no more."""
        return self._store.state(self.id_of(entry)) not in (objects.SEALED, objects.SPILLED)

    def pack(self, value: Any, name: str) -> tuple[int, Any, list[bytes]]:
        """Serialize a value: (BLOB, bytes, []) or (STORED, Serialized, ids of references inside)."""
        if objects.is_plain(value):
            return BLOB, pickle.dumps(value, PROTOCOL), _NOTHING
        gathering = self.gathering
        outer, gathering.met = gathering.met, []
        try:
            serialized = objects.encode(value, name)
            met = gathering.met
        finally:
            gathering.met = outer
        if serialized.size_bytes <= config.INLINE_BYTES_MAX and not met:
            return BLOB, serialized.to_bytes(), _NOTHING
        return STORED, serialized, [held.hold.object_id for held in met]

    def load(self, entry: Entry) -> Any:
        """Return the value of a STORED entry: arrays in it are views of the store.

        Raises:
            MissingObject: it was lost.
            Exception: what the task that should have produced it raised.
        """
        identity = self.id_of(entry)
        try:
            buffer = self._store.try_get(identity)
        except objects.ObjectLostError:
            buffer = None
        if buffer is None:
            raise MissingObject
        value = objects.deserialize(buffer)
        if type(value) is StoredError:
            raise value.rebuild()
        return value
