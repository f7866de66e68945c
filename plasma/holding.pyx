"""The facade's part about the ledger: what a client watches, promises, refers to, and keeps as an agent."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from plasma cimport keeping, lifecycle, promises, watches
from plasma.attachment cimport Client
from plasma.layout cimport FREE

from plasma.errors import NotOwnerError, ObjectExistsError, TableFullError, UsageError
from plasma.refusal import refusal


cdef class Holder:
    """What a Store is as one of those who hold objects."""

    def watch(self, bytes object_id not None):
        """The object's state; if it is not final, its seal or loss will ring this client's bell, once."""
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t state = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        if watches.watch(self.client.seg, hi, lo, &state) != lifecycle.OK:
            raise TableFullError("the store's table is full; create the store with a larger max_objects")
        return state

    def unwatch(self, bytes object_id not None):
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        watches.unwatch(self.client.seg, hi, lo)

    def declare(self, bytes object_id not None, uint64_t owner=0):
        """Promises an object that is not produced yet, and takes a reference on it, in the name of `owner` (0: this client).
        The promise is this client's in any case: if it dies first, all who wait for the object get ObjectLostError. It
        lasts until the object is sealed or abandoned, or nobody holds it or waits for it any more.

        Raises ObjectExistsError while a deleted object of that id is still held, PeerDiedError (owner).
        """
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        status = promises.declare(self.client.seg, hi, lo, owner if owner else self.client.seg.address)
        if status != lifecycle.OK:
            raise refusal(self.client, status, object_id, 0, owner)

    def abandon(self, bytes object_id not None):
        """Breaks the promise: whoever waits for the object gets ObjectLostError. False: it was not pending."""
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        return promises.abandon(self.client.seg, hi, lo) == lifecycle.OK

    def renew(self, bytes object_id not None, uint64_t owner=0):
        """Promises once more, in the name of `owner` (0: this client), an object that is still held and whose data is
        gone: deleted, or lost. False when there is nothing to renew: it is here, on its way, or nobody holds it.

        Raises ObjectExistsError while the deleted memory is still being read, PeerDiedError (owner).
        """
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        status = promises.renew(self.client.seg, hi, lo, owner if owner else self.client.seg.address)
        if status == lifecycle.OK:
            return True
        if status == lifecycle.ABSENT or status == lifecycle.EXISTS:
            return False
        if status == lifecycle.NOT_SEALED:
            raise ObjectExistsError(f"object {object_id.hex()} is deleted, and somebody still reads its memory: drop the views")
        raise refusal(self.client, status, object_id, 0, owner)

    def size_of(self, bytes object_id not None):
        """Bytes of an object that is here, in memory or on disk; None: it is not."""
        cdef uint64_t hi = 0, lo = 0
        cdef int64_t size
        self.client.check()
        parse_id(object_id, &hi, &lo)
        size = lifecycle.size_of(self.client.seg, hi, lo)
        return None if size < 0 else size

    def knows(self, bytes object_id not None):
        """True while anybody holds the object or waits for it, even if its data is gone."""
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        return lifecycle.is_known(self.client.seg, hi, lo)

    def add_ref(self, bytes object_id not None):
        """Takes a reference; False when the store doesn't know the object. An object that ever had one is freed with
        the last."""
        return self._take_ref(object_id) != FREE

    def take_ref(self, bytes object_id not None):
        """Like add_ref(), and returns the object's state; ABSENT when the store doesn't know it."""
        return self._take_ref(object_id)

    cdef uint32_t _take_ref(self, bytes object_id) except? 99:
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t state = FREE
        self.client.check()
        parse_id(object_id, &hi, &lo)
        if lifecycle.add_ref(self.client.seg, hi, lo, &state) == lifecycle.LEDGER_FULL:
            raise TableFullError("the ledger of pins and references is full; create the store with a larger max_objects")
        return state

    def drop_ref(self, bytes object_id not None):
        """Gives one of this client's references back. Raises NotOwnerError if it has none."""
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        if lifecycle.drop_ref(self.client.seg, hi, lo) != lifecycle.OK:
            raise NotOwnerError(f"this client holds no reference on object {object_id.hex()}")

    # ---- keeping, as an agent

    @property
    def is_agent(self):
        """This client acts for somebody outside the store: what it holds is no use of an object."""
        self.client.check()
        return bool(self.client.seg.slots[self.client.seg.slot].agent)

    cdef int _agent(self) except -1:
        self.client.check()
        if not self.client.seg.slots[self.client.seg.slot].agent:
            raise UsageError("only an agent keeps objects: Store.create/attach(agent=True), or Store.stand_in()")
        return 0

    def keep(self, bytes object_id not None):
        """Keeps an object, whoever drops his references, until unkeep(); doing it twice is doing it once. Returns its state.

        An unknown object becomes PENDING, promised by this client. One that is deleted already is not kept: ABSENT or
        FREED, as state() says. With the object's last use, a hold of a client that is no agent or of an object
        that contains it, take_unneeded() will tell its id.
        """
        cdef uint64_t hi = 0, lo = 0
        cdef uint32_t state = 0
        self._agent()
        parse_id(object_id, &hi, &lo)
        status = keeping.keep(self.client.seg, hi, lo, &state)
        if status != lifecycle.OK:
            raise refusal(self.client, status, object_id, 0, 0)
        return state

    def unkeep(self, bytes object_id not None):
        """Gives the keep up; the object goes unless somebody else holds it. Raises NotOwnerError if it isn't kept by this
        client. A promise that won't be fulfilled is to be abandoned first."""
        self._unkeep(object_id, False)

    def unkeep_if_unneeded(self, bytes object_id not None):
        """Like unkeep(), unless the object is in use: then False, and nothing changes."""
        return self._unkeep(object_id, True) == lifecycle.OK

    def _unkeep(self, bytes object_id, bint only_unneeded):
        cdef uint64_t hi = 0, lo = 0
        self._agent()
        parse_id(object_id, &hi, &lo)
        status = keeping.unkeep(self.client.seg, hi, lo, only_unneeded)
        if status == lifecycle.ABSENT:
            raise NotOwnerError(f"this client doesn't keep object {object_id.hex()}")
        return status

    def is_needed(self, bytes object_id not None):
        """True while the object is in use: a client that is no agent holds or awaits it, or an object contains it."""
        cdef uint64_t hi = 0, lo = 0
        self.client.check()
        parse_id(object_id, &hi, &lo)
        return keeping.is_needed(self.client.seg, hi, lo)

    def take_unneeded(self, uint32_t limit=256):
        """Ids of objects that this client keeps and that lost their last use since they were taken last; this client's bell
        rang when they did. One that is in use again is left out, and comes again when it no longer is."""
        cdef uint64_t* ids
        cdef uint32_t i, count
        self.client.check()
        if limit == 0 or self.client.seg.slots[self.client.seg.slot].news == 0:
            return []
        ids = <uint64_t*>malloc(<size_t>limit * 16)
        if ids == NULL:
            raise MemoryError()
        try:
            count = keeping.take_unneeded(self.client.seg, ids, limit)
            return [PyBytes_FromStringAndSize(<char*>&ids[2 * i], 16) for i in range(count)]
        finally:
            free(ids)

    def drop_copy(self, bytes object_id not None):
        """Gives up the data of an object that this client keeps, and with it the references it contains: it is PENDING,
        promised by this client, and who holds it goes on holding it. False: it is pinned, or there is no data.

        Raises NotOwnerError if it isn't kept by this client.
        """
        cdef uint64_t hi = 0, lo = 0
        self._agent()
        parse_id(object_id, &hi, &lo)
        status = keeping.drop_copy(self.client.seg, hi, lo)
        if status == lifecycle.ABSENT:
            raise NotOwnerError(f"this client doesn't keep object {object_id.hex()}")
        return status == lifecycle.OK
