"""Room by the disk: moves what is referenced and not in use to files, and brings it back when it is read.

disk.pyx has the states, spill.py the files; here the two meet, and the interpreter's lock is let go for the reading and
writing.
"""
import threading

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from plasma._c.posix cimport add64, store64
from plasma cimport disk
from plasma.attachment cimport Client
from plasma.buffer cimport make_buffer
from plasma.channel cimport Endpoint
from plasma.disk cimport Victim
from plasma.intents cimport remove_file
from plasma.layout cimport (
    CRASH_RESTORE_READ, CRASH_SPILL_NUMBERED, CRASH_SPILL_WRITING, CRASH_SPILL_WRITTEN, PLACE_BITS, Entry, Segment, crash_point,
)
from plasma.lifecycle cimport ABSENT, BUSY, GONE, LEDGER_FULL, NO_SPACE, OK, ON_DISK, UNREAD, pin, unpin
from plasma.recovery cimport reap_slot
from plasma.room cimport make_room as evict
from plasma.watches cimport stop_waiting_for

from plasma import spill
from plasma.errors import ObjectLostError, OutOfDiskError, SpilledObjectLostError, TableFullError

cdef enum:
    # At least this much goes at a time, or a sixteenth of a smaller store: a pass over the table is to be worth it.
    SPILLED_BYTES_MIN = 64 * 1024 * 1024
    STORE_SHARE = 16


# A dead filler rings nobody until it is reaped.
FILLER_LOOK_S = 0.25


cdef class Spiller:
    def __cinit__(self, Client client, Endpoint endpoint):
        self.client = client
        self.endpoint = endpoint
        self.lock = threading.RLock()

    @property
    def enabled(self):
        return self.client.seg.header.spill_directory[0] != 0

    @property
    def directory(self):
        """Where the files are, or will be; None: nothing is spilled."""
        return (<bytes>self.client.seg.header.spill_directory).decode() or None

    cdef int _directory(self, bint create) except -1:
        if self.client.seg.common.disk_fd < 0:
            self.client.seg.common.disk_fd = spill.open_directory(self.directory, create=create)
        return self.client.seg.common.disk_fd

    # ---- to the disk

    cdef bint make_room(self, uint64_t need) except -1:
        """Spills objects worth `need` bytes and some more. False: there were none, or the disk takes none (`out_of_disk`)."""
        cdef Segment* seg = self.client.seg
        cdef Victim* victims = NULL
        cdef uint32_t count, i, hold
        cdef uint64_t least = min(<uint64_t>SPILLED_BYTES_MIN, seg.header.objects_bytes // STORE_SHARE)
        cdef uint64_t freed = 0
        if not self.enabled:
            return False
        with self.lock:
            if self.spilling:            # a destructor that runs in the middle of it
                return False
            self.spilling = True
            pinned = []
            try:
                with nogil:
                    count = disk.choose_victims(seg, max(need, least), &victims)
                sizes = []
                for i in range(count):
                    hold = disk.pin_victim(seg, victims[i].entry)
                    if hold == 0:
                        continue
                    if seg.entries[victims[i].entry].file:
                        if disk.commit_spill(seg, victims[i].entry, hold, 0):
                            freed += victims[i].bytes
                        continue
                    pinned.append((victims[i].entry, hold))
                    sizes.append(disk.payload_bytes(seg, victims[i].entry))
                pinned.reverse()
                for batch in spill.fuse(sizes):
                    freed += self._write([pinned.pop() for _ in batch])
                self.out_of_disk = None
            except (OutOfDiskError, OSError) as error:
                # What is on the disk by now is there. Of the rest nothing is lost: it stays in memory.
                self.out_of_disk = error
            finally:
                for entry, held in pinned:
                    unpin(seg, entry, held)
                free(victims)
                self.spilling = False
            return freed > 0

    cdef uint64_t _number(self, uint64_t count) noexcept:
        """The first of `count` numbers for files. From here on our reaper removes what has them."""
        cdef Segment* seg = self.client.seg
        cdef uint64_t first = add64(&seg.header.files_ever, count) + 1
        store64(&seg.slots[seg.slot].files_end, 0)
        store64(&seg.slots[seg.slot].files_next, first)
        store64(&seg.slots[seg.slot].files_end, first + count)
        crash_point(seg, CRASH_SPILL_NUMBERED)
        return first

    cdef uint64_t _write(self, list batch) except? 0:
        """Writes pinned objects into one file and lets their memory go. Takes the pins over, whatever happens."""
        cdef Segment* seg = self.client.seg
        cdef uint64_t first, freed = 0, bytes, file
        cdef uint32_t e, h
        cdef Entry* entry
        done = 0
        try:
            self._directory(True)
            records = []
            for e, h in batch:
                entry = &seg.entries[e]
                payload = PyMemoryView_FromMemory(<char*>seg.data_sealed + entry.offset, disk.payload_bytes(seg, e), PyBUF_READ)
                records.append(spill.Record(PyBytes_FromStringAndSize(<char*>&entry.id_hi, 16), payload))
            first = self._number(len(batch))
            places = spill.write(seg.common.disk_fd, first, records, self._step)
            crash_point(seg, CRASH_SPILL_WRITTEN)
            for file, (e, h) in zip(places, batch):
                bytes = seg.entries[e].allocated_bytes
                done += 1
                if disk.commit_spill(seg, e, h, file):
                    freed += bytes
                else:
                    remove_file(seg, file >> PLACE_BITS)
                    seg.slots[seg.slot].files_next = (file >> PLACE_BITS) + 1
        finally:
            seg.slots[seg.slot].files_end = 0
            for e, h in batch[done:]:
                unpin(seg, e, h)
        return freed

    def _step(self):
        crash_point(self.client.seg, CRASH_SPILL_WRITING)

    # ---- and back

    cdef object load(self, bytes object_id):
        """A Buffer on a spilled object, restored; a view of its file if memory has no room; None if it is gone.

        Raises SpilledObjectLostError, ObjectLostError, TableFullError.
        """
        cdef Segment* seg = self.client.seg
        cdef uint64_t hi = 0, lo = 0, filler = 0, need
        cdef uint32_t e = 0, h = 0
        cdef int status
        memcpy(&hi, PyBytes_AS_STRING(object_id), 8)
        memcpy(&lo, PyBytes_AS_STRING(object_id) + 8, 8)
        self.client.views += 1           # another thread's close() must not unmap what is being read
        try:
            while True:
                self.client.check()
                status = disk.claim(seg, hi, lo, &e, &h)
                if status == ON_DISK:
                    if self._fill(object_id, e, h):
                        return make_buffer(self.client, object_id, e, h)
                    continue
                if status == OK:
                    status = pin(seg, hi, lo, &e, &h)
                    if status == OK:
                        return make_buffer(self.client, object_id, e, h)
                    if status == ON_DISK:
                        continue
                if status == BUSY:
                    self._await_filler(hi, lo)
                    continue
                if status == NO_SPACE:
                    need = self._need(hi, lo)
                    if need and (evict(seg, need) or self.make_room(need)):
                        continue
                    return self._view(object_id, hi, lo)
                if status == UNREAD:
                    raise self._unreadable(object_id, "its file was missing or damaged")
                if status == GONE:
                    raise ObjectLostError(f"object {object_id.hex()} will never come: whoever promised it died or gave up")
                if status == LEDGER_FULL:
                    raise TableFullError("the ledger of pins and references is full; create the store with a larger max_objects")
                return None
        finally:
            self.client.view_gone()

    def _fill(self, bytes object_id, uint32_t e, uint32_t h):
        """Reads a claimed object's bytes. True: it is back, pinned once for the caller. False: it was deleted meanwhile."""
        cdef Segment* seg = self.client.seg
        cdef Entry* entry = &seg.entries[e]
        try:
            payload = PyMemoryView_FromMemory(seg.data + entry.offset, disk.payload_bytes(seg, e), PyBUF_WRITE)
            try:
                self._directory(False)
            except FileNotFoundError:
                raise spill.UnreadableError("its directory is gone") from None
            spill.read(seg.common.disk_fd, entry.file, object_id, payload)
        except spill.UnreadableError as error:
            disk.lose_unreadable(seg, e, h)
            raise self._unreadable(object_id, str(error)) from None
        except BaseException:
            disk.give_up_restore(seg, e, h)
            raise
        crash_point(seg, CRASH_RESTORE_READ)
        return disk.commit_restore(seg, e, h) == OK

    def _unreadable(self, bytes object_id, why):
        return SpilledObjectLostError(
            f"object {object_id.hex()} was moved to disk for want of room, and its file in {self.directory} can't be read: {why}")

    def _await_filler(self, uint64_t hi, uint64_t lo):
        """Until another client, or thread, has restored the object or given up."""
        cdef Segment* seg = self.client.seg
        cdef uint64_t filler = 0
        bell = self.endpoint.bell()
        if disk.watch_restore(seg, hi, lo, &filler) != BUSY:
            return
        try:
            self.endpoint.wait(0, FILLER_LOOK_S, bell)
        finally:
            if self.client.usable():
                stop_waiting_for(seg, hi, lo)
                if filler != seg.address:
                    reap_slot(seg, <uint32_t>(filler & 0xFFFF))

    def _need(self, uint64_t hi, uint64_t lo):
        cdef uint64_t file = 0, size = 0
        return size + 4096 if disk.find_file(self.client.seg, hi, lo, &file, &size) == ON_DISK else 0

    def _view(self, bytes object_id, uint64_t hi, uint64_t lo):
        """Straight from the disk: everything in memory is pinned, and whoever reads may be who would let go."""
        cdef uint64_t file = 0, size = 0
        if disk.find_file(self.client.seg, hi, lo, &file, &size) != ON_DISK:
            return None
        try:
            self._directory(False)
            return spill.view(self.client.seg.common.disk_fd, file, object_id, size)
        except (spill.UnreadableError, FileNotFoundError) as error:
            raise self._unreadable(object_id, str(error)) from None
