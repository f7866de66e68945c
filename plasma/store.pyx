"""The facade: what a program does with a store. Each method is one or two steps of lifecycle, plus the errors' texts."""
import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromString
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free as c_free, malloc
from libc.string cimport memcpy
from plasma._c.posix cimport full_fence, pl_copy, pl_now_ns
from plasma cimport lifecycle, watches
from plasma.arena cimport Arena
from plasma.attachment cimport Client
from plasma.buffer cimport Allocation as AllocationType, Buffer as BufferType, make_allocation, make_buffer
from plasma.channel cimport Endpoint
from plasma.creation cimport create_when_room
from plasma.holding cimport Holder, parse_id
from plasma.layout cimport (
    CREATED, CRASH_WRITE, DELETED, EXPOSED, FREE, FREED, GIVEN_UP, LOST, PENDING, RESIDENT, SEALED, SPILLED, Contained, Segment, crash_point, round_up,
)
from plasma.recovery cimport reap_all, reap_slot
from plasma.spiller cimport Spiller

from plasma import audit as _audit, object_id as _ids, serialization as _serialization, stats as _stats
from plasma.arena import default_size_bytes
from plasma.buffer import Allocation, Buffer
from plasma.refusal import refusal
from plasma.errors import (
    GetTimeoutError,
    ObjectExistsError,
    ObjectLostError,
    ObjectNotFoundError,
    ObjectNotSealedError,
    ObjectTooLargeError,
    SpilledObjectLostError,
    TableFullError,
)
from plasma.layout import STATE_NAMES
from plasma.stats import ObjectInfo

cdef enum:
    PARTS_MAX = 1 << 20
    # Below this many bytes a copy is done with the interpreter's lock held: releasing and taking it costs as much.
    COPY_UNLOCKED_MIN = 32 * 1024
    # From this size on the next fresh pages are made warm in the background.
    WARM_MIN = 1024 * 1024


# Caps what is added to a clock: 30 years.
FOREVER_S = 1e9
# How often a waiter looks at an id whose last object is deleted and still being read.
DELETED_LOOK_S = 0.01


def born_here(value):
    """The unsealed Allocation that `value`, an array from empty(), fills; None for anything else."""
    if type(value).__name__ != "ndarray" or value.base is None:
        return None
    from plasma import arrays

    return arrays.allocation_under(value)


cdef class Store(Holder):
    """A shared-memory object store, as one client of it. Make one with Store.create(), Store.attach() or plasma.connect()."""

    def __init__(self):
        raise TypeError("use Store.create(), Store.attach(fd) or plasma.connect(path)")

    @staticmethod
    def create(size_bytes=None, *, max_objects=1 << 20, max_clients=4096, name="", spill_directory=None, agent=False):
        """A new store of `size_bytes` (default: 30 % of memory; pages cost nothing until used), with this process as
        its first client.

        spill_directory: where referenced objects go when it is full, made at the first need; None: nowhere. It is for
        this store alone, and the creator's to remove. agent: this client acts for somebody outside (see stand_in()).

        Raises ValueError for impossible sizes, OSError or MemoryError when the kernel refuses.
        """
        return _client_of(Arena.create(default_size_bytes() if size_bytes is None else size_bytes,
                                       max_objects, max_clients, name.encode(),
                                       b"" if spill_directory is None else os.path.abspath(os.fsencode(spill_directory))),
                          name, agent)

    @staticmethod
    def attach(fd, *, name="", agent=False):
        """Joins the store whose segment `fd` is. The descriptor stays the caller's. agent: see stand_in().

        Raises NotAStoreError, LayoutVersionError, TooManyClientsError.
        """
        return _client_of(Arena.attach(fd), name, agent)

    def stand_in(self, name=""):
        """One more client of this process in the same mapping, an agent: it stands for somebody outside the store, and has an
        address, channels, and a ledger in his place. Of all else it is a Store like any other, and may outlive this one.

        What agents hold keeps objects, and is no use of them: see keep(). Raises TooManyClientsError.
        """
        self.client.check()
        return _client_of(self.client.arena, name, True)

    # ---- what it is

    @property
    def fd(self):
        """The segment's descriptor: hand it to another process, which then calls Store.attach()."""
        return self.client.arena.fd

    @property
    def address(self):
        """This client's address in channels and in `owner=`."""
        return self.client.seg.address

    def name_of(self, uint64_t address):
        """The name of the client that lives at an address; None if none does. At most 31 bytes of it are kept."""
        cdef Segment* seg = self.client.seg
        self.client.check()
        if not lifecycle.client_is(seg, address):
            return None
        name = PyBytes_FromString(seg.slots[address & 0xFFFF].name)
        full_fence()                     # still the same, so the name was his
        return name.decode("utf-8", "replace") if lifecycle.client_is(seg, address) else None

    @property
    def size_bytes(self):
        return self.client.arena.objects_bytes

    @property
    def spill_directory(self):
        """Where objects go that don't fit; None: nowhere."""
        self.client.check()
        return self.spiller.directory

    @property
    def closed(self):
        return self.client.closing or not self.client.open

    def close(self):
        """Gives back all references and the client slot. Views handed out stay readable; what they pin is released
        with the last of them."""
        if self.client.usable() and not self.client.closing:
            self.endpoint.senders.clear()
            self.client.begin_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        if self.closed:
            return "<plasma.Store closed>"
        return f"<plasma.Store of {self.size_bytes} bytes, client {self.address}>"

    # ---- making objects

    def create_buffer(self, bytes object_id, size_bytes, *, owner=0, contained=(), referenced=False, timeout_s=0.0):
        """Memory for an object of `size_bytes`, to be filled and sealed.

        owner: address of the client to record a reference for (a worker stores a result for its submitter);
        referenced: record one for this client. contained: ids of objects that this one holds references on.
        timeout_s: how long to wait for space (0: not at all, None: for ever).

        Raises ObjectExistsError, ObjectStoreFullError, ObjectTooLargeError, TableFullError, PeerDiedError (owner).
        """
        cdef uint32_t entry = 0, hold = 0
        cdef bint fresh = False
        self._create(object_id, size_bytes, EXPOSED, owner, contained, referenced, timeout_s, &entry, &hold, &fresh)
        return make_allocation(self.client, object_id, entry, hold, fresh)

    def put_parts(self, bytes object_id, list parts not None, *, owner=0, contained=(), referenced=False, timeout_s=0.0,
                  bint resident=False):
        """Creates, fills and seals an object in one call. Returns its size in bytes.

        Each part starts at a multiple of 64 bytes from the object's start. A `resident` one stays off the disk. Errors as in create_buffer().
        """
        cdef Py_ssize_t n = len(parts), i, filled = 0
        cdef Py_buffer* views
        cdef uint64_t size = 0
        cdef uint32_t entry = 0, hold = 0
        cdef bint fresh = False
        cdef char* start
        cdef Segment* seg = self.client.seg
        if not 0 < n <= PARTS_MAX:
            raise ValueError(f"an object has between 1 and {PARTS_MAX} parts, got {n}")
        views = <Py_buffer*>malloc(n * sizeof(Py_buffer))
        if views == NULL:
            raise MemoryError()
        self.client.views += 1           # another thread's close() must not unmap what we copy to
        try:
            for i in range(n):
                PyObject_GetBuffer(parts[i], &views[i], PyBUF_SIMPLE)
                filled = i + 1
                size = round_up(size, 64) + <uint64_t>views[i].len
            self._create(object_id, size, RESIDENT if resident else 0, owner, contained, referenced, timeout_s, &entry, &hold, &fresh)
            start = seg.data + seg.entries[entry].offset
            crash_point(seg, CRASH_WRITE)
            if size < COPY_UNLOCKED_MIN:
                for i in range(n):
                    memcpy(start, views[i].buf, views[i].len)
                    start += round_up(views[i].len, 64)
            else:
                with nogil:
                    for i in range(n):
                        pl_copy(start, <const char*>views[i].buf, views[i].len, fresh)
                        start += round_up(views[i].len, 64)
            lifecycle.seal(seg, entry, hold, False)
        finally:
            for i in range(filled):
                PyBuffer_Release(&views[i])
            c_free(views)
            self.client.view_gone()
        return size

    cdef int _create(self, bytes object_id, size_bytes, uint32_t flags, owner, contained, bint referenced, timeout_s,
                     uint32_t* entry, uint32_t* hold, bint* fresh) except -1:
        cdef Segment* seg = self.client.seg
        cdef uint64_t hi = 0, lo = 0, size, holder = owner
        cdef uint32_t count = <uint32_t>len(contained)
        cdef int status
        self.client.check()
        parse_id(object_id, &hi, &lo)
        if size_bytes < 0:
            raise ValueError(f"size_bytes must not be negative, got {size_bytes}")
        if size_bytes + count * sizeof(Contained) > seg.header.objects_bytes:
            raise ObjectTooLargeError(
                f"an object of {size_bytes} bytes can't fit a store of {seg.header.objects_bytes}, not even with all others "
                "on disk; create a larger store, or store the value in pieces")
        size = size_bytes
        if referenced and not holder:
            holder = seg.address
        status = lifecycle.create(seg, hi, lo, size, flags, holder, count, entry, hold, fresh)
        if status == lifecycle.NO_SPACE:
            status = create_when_room(
                self.client, self.endpoint, self.spiller, hi, lo, size, flags, holder, count, timeout_s, entry, hold, fresh)
        if status != lifecycle.OK:
            raise refusal(self.client, status, object_id, size_bytes, owner, self.spiller)
        if fresh[0] and size >= WARM_MIN:
            self.client.arena.warm_ahead()
        try:
            # All are looked for before any is held: a reference that an abort took back would free an object that nobody
            # had referenced before.
            for child in contained:
                if child == object_id:
                    raise ValueError(f"object {object_id.hex()} can't contain itself")
                parse_id(child, &hi, &lo)
                if lifecycle.state_of(seg, hi, lo) == FREE:
                    raise ObjectNotFoundError(f"can't hold a reference on object {child.hex()}: the store doesn't know it")
        except BaseException:
            lifecycle.abort(seg, entry[0], hold[0])
            raise
        for child in contained:
            parse_id(child, &hi, &lo)
            status = lifecycle.contain(seg, entry[0], hi, lo)
            if status != lifecycle.OK:
                lifecycle.abort(seg, entry[0], hold[0])
                if status == lifecycle.CONTAINED_ABSENT:
                    raise ObjectNotFoundError(f"can't hold a reference on object {child.hex()}: the store doesn't know it")
                raise TableFullError("the ledger of references is full; create the store with a larger max_objects")
        return 0

    # ---- reading objects

    cdef object _lookup(self, bytes object_id):
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t entry = 0, hold = 0
        cdef int status
        self.client.check()
        parse_id(object_id, &hi, &lo)
        status = lifecycle.pin(self.client.seg, hi, lo, &entry, &hold)
        if status == lifecycle.OK:
            return make_buffer(self.client, object_id, entry, hold)
        if status == lifecycle.ON_DISK:
            return self.spiller.load(object_id)
        if status == lifecycle.UNREAD:
            raise SpilledObjectLostError(
                f"object {object_id.hex()} was moved to disk, and its file was missing or damaged")
        if status == lifecycle.GONE:
            raise ObjectLostError(f"object {object_id.hex()} will never come: whoever promised it died or gave up")
        if status == lifecycle.LEDGER_FULL:
            raise TableFullError("the ledger of pins and references is full; create the store with a larger max_objects")
        return None

    def try_get(self, bytes object_id not None):
        """A Buffer on the sealed object, or None when it is absent or not sealed yet. Raises ObjectLostError."""
        return self._lookup(object_id)

    def get(self, bytes object_id not None, timeout_s=None):
        """A Buffer on the object; waits for the seal up to timeout_s seconds (None: for ever).

        Raises GetTimeoutError, ObjectLostError; with timeout_s=0 ObjectNotFoundError or ObjectNotSealedError.
        """
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t state = 0
        buffer = self._lookup(object_id)
        if buffer is not None:
            return buffer
        if timeout_s is not None and timeout_s <= 0:
            if self.state(object_id) in (0, FREED):
                raise ObjectNotFoundError(f"no object {object_id.hex()} in the store")
            raise ObjectNotSealedError(f"object {object_id.hex()} is not sealed yet")
        parse_id(object_id, &hi, &lo)
        if watches.wait_for(self.client.seg, hi, lo, True, &state) != lifecycle.OK:
            raise TableFullError("the store's table is full; create the store with a larger max_objects")
        marked = state == PENDING or state == CREATED
        try:
            self.wait([object_id], 1, timeout_s)
            buffer = self._lookup(object_id)     # before our mark goes: it may be all that keeps a lost object known
        finally:
            if marked and self.client.usable():
                watches.stop_waiting_for(self.client.seg, hi, lo)
        if buffer is None:
            raise GetTimeoutError(
                f"object {object_id.hex()} was not sealed within {timeout_s} s "
                f"(it is {STATE_NAMES[self.state(object_id)] if self.state(object_id) else 'unknown to the store'})")
        return buffer

    def extent(self, buffer not None):
        """(offset, size) of a Buffer's or an Allocation's bytes in the file `fd`, for sendfile() and its like. They stay
        there while it lives.

        Raises ValueError when the Buffer was released, or is another store's.
        """
        cdef BufferType sealed
        cdef AllocationType fresh
        cdef uint64_t offset
        if isinstance(buffer, Allocation):
            fresh = buffer
            if fresh.client.arena is self.client.arena:
                offset = <uint64_t>(fresh.start - self.client.seg.data)
                return (self.client.seg.header.data_start + offset, fresh.size)
        else:
            sealed = buffer
            if not sealed.released and sealed.client.arena is self.client.arena:
                offset = <uint64_t>(sealed.start - self.client.seg.data_sealed)
                return (self.client.seg.header.data_start + offset, sealed.size)
        raise ValueError(f"the memory of object {buffer.object_id.hex()} has been released, or is of another store")

    def wait(self, list object_ids not None, count=1, timeout_s=None):
        """Waits until `count` of the objects are sealed or lost, or timeout_s seconds have passed.

        Returns (ready, rest), both in the given order; ready may be longer than count.
        """
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t state = 0
        if not 0 <= count <= len(object_ids):
            raise ValueError(f"count must lie between 0 and the number of objects ({len(object_ids)}), got {count}")
        deadline = None if timeout_s is None else pl_now_ns() + int(max(0.0, min(timeout_s, FOREVER_S)) * 1e9)
        marked = set()                   # ids that have our mark: it must be taken back
        try:
            while True:
                self.client.check()
                bell = self.endpoint.bell()
                ready = []
                rest = []
                leaving = False
                for object_id in object_ids:
                    parse_id(object_id, &hi, &lo)
                    if watches.wait_for(self.client.seg, hi, lo, object_id not in marked, &state) != lifecycle.OK:
                        raise TableFullError("the store's table is full; create the store with a larger max_objects")
                    if state == SEALED or state == LOST or state == SPILLED:
                        ready.append(object_id)
                        continue
                    rest.append(object_id)
                    if state == DELETED:
                        leaving = True
                    else:
                        marked.add(object_id)
                if len(ready) >= count:
                    return ready, rest
                left = None
                if deadline is not None:
                    left = (deadline - pl_now_ns()) / 1e9
                    if left <= 0:
                        return ready, rest
                if leaving:              # nobody rings when the last view of a deleted object goes
                    left = DELETED_LOOK_S if left is None else min(left, DELETED_LOOK_S)
                self.endpoint.wait(0, left, bell)
        finally:
            if self.client.usable():
                for object_id in marked:
                    parse_id(object_id, &hi, &lo)
                    watches.stop_waiting_for(self.client.seg, hi, lo)

    def state(self, bytes object_id not None):
        """ABSENT, PENDING, CREATED, SEALED, SPILLED, LOST or FREED."""
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        return lifecycle.state_of(self.client.seg, hi, lo)

    def contains(self, bytes object_id not None):
        """True if the object is there and can be got without waiting for its producer."""
        return self.state(object_id) in (SEALED, SPILLED)

    # ---- giving up

    def delete(self, bytes object_id not None):
        """Removes a sealed object at once; its memory goes with the last view of it.

        Raises ObjectNotFoundError, ObjectNotSealedError.
        """
        self._delete(object_id, 0)

    def free(self, bytes object_id not None):
        """Like delete(), for good: who still holds references sees the state FREED, and nobody makes it again."""
        self._delete(object_id, GIVEN_UP)

    def _delete(self, bytes object_id, uint32_t flags):
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        status = lifecycle.delete(self.client.seg, hi, lo, False, flags)
        if status == lifecycle.ABSENT:
            raise ObjectNotFoundError(f"no object {object_id.hex()} in the store")
        if status == lifecycle.NOT_SEALED:
            raise ObjectNotSealedError(f"object {object_id.hex()} is not sealed; its creator can abort it")

    # ---- values

    def put(self, value, bytes object_id=None):
        """Stores a Python value and returns its id. An array from empty() is only sealed, not copied."""
        cdef AllocationType allocation = born_here(value)
        if (allocation is not None and allocation.client is self.client
                and (object_id is None or object_id == allocation.object_id)):
            allocation.seal()
            value.flags.writeable = False
            return allocation.object_id
        if object_id is None:
            object_id = _ids.new()
        self.put_parts(object_id, _serialization.serialize(value).parts)
        return object_id

    def load(self, bytes object_id not None, timeout_s=None):
        """The value of an object; arrays in it are read-only views of shared memory. Errors as in get()."""
        buffer = self._lookup(object_id)
        return _serialization.deserialize(self.get(object_id, timeout_s) if buffer is None else buffer)

    def empty(self, shape, dtype=float, **options):
        """A numpy array allocated in the store: fill it, then put() it without a copy. See plasma.arrays.empty."""
        from plasma import arrays

        return arrays.empty(self, shape, dtype, **options)

    # ---- upkeep

    def release(self, buffer):
        """Lets go of a Buffer now. Raises BufferError while a view made of it is alive."""
        buffer.release()

    def reap(self):
        """Drops all that dead clients held. Returns how many were found."""
        self.client.check()
        return reap_all(self.client.seg)

    def reap_client(self, uint64_t address):
        """Like reap(), for one client. False if it lives or is unknown."""
        cdef uint32_t slot = <uint32_t>(address & 0xFFFF)
        self.client.check()
        if not 0 < slot < self.client.seg.header.slots_max or self.client.seg.slots[slot].address != address:
            return False
        return reap_slot(self.client.seg, slot)

    def trim(self):
        """Returns the pages of free memory to the kernel. Returns the number of bytes punched out."""
        self.client.check()
        return _stats.trim(self.client)

    def list(self):
        """ObjectInfo of every object (channels apart)."""
        self.client.check()
        return _stats.list_objects(self.client)

    def holds(self):
        """HoldInfo of every record of the ledger (channels apart): which client, or which object, keeps an object."""
        self.client.check()
        return _stats.list_holds(self.client)

    def clients(self):
        """A dict per client slot in use: address, pid, name, state."""
        self.client.check()
        return _stats.list_clients(self.client)

    def audit(self):
        """Checks every count and every byte of the store, under all its locks. See plasma.audit.Audit."""
        self.client.check()
        return _audit.audit(self.client)

    def stats(self, bint objects=True):
        """Totals: bytes, objects, clients, operations, repairs. Without `objects`, which are counted each time, only bytes."""
        self.client.check()
        return _stats.stats(self.client) if objects else _stats.memory(self.client)


cdef Store _client_of(Arena arena, name, bint agent):
    cdef Store store = Store.__new__(Store)
    store.client = Client(arena, name.encode(), agent)
    store.endpoint = Endpoint(store.client)
    store.spiller = Spiller(store.client, store.endpoint)
    return store
