"""What one client has out of the table and must give back: a block, a file. If it dies first, its reaper does it."""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_open_directory, pl_remove_numbered, store32
from plasma.allocator cimport release_intent
from plasma.layout cimport CRASH_DELETE_DONE, CRASH_DELETE_FILE, PLACE_BITS, Segment, crash_point
from plasma.waiters cimport ring_space_waiters


cdef void set_intent(Segment* seg, uint32_t e) noexcept nogil:
    """The entry's block passes into this client's intent; the caller then takes it from the entry."""
    cdef uint32_t b = seg.entries[e].block
    seg.slots[seg.slot].intent_offset = seg.blocks[b].offset
    seg.slots[seg.slot].intent_bytes = seg.blocks[b].size
    store32(&seg.slots[seg.slot].intent, b)


cdef void set_file_intent(Segment* seg, uint32_t e) noexcept nogil:
    """The same for the entry's file, if it has one."""
    if seg.entries[e].file:
        seg.slots[seg.slot].file_intent = seg.entries[e].file >> PLACE_BITS


cdef void remove_file(Segment* seg, uint64_t number) noexcept nogil:
    """Removes a spill file; one of several objects goes with its last name. Nothing happens if it is gone."""
    if seg.common.disk_fd < 0 and seg.header.spill_directory[0]:
        seg.common.disk_fd = pl_open_directory(seg.header.spill_directory)
    if seg.common.disk_fd >= 0:
        pl_remove_numbered(seg.common.disk_fd, number)


cdef void free_intent(Segment* seg) noexcept nogil:
    if seg.slots[seg.slot].file_intent:
        crash_point(seg, CRASH_DELETE_FILE)
        remove_file(seg, seg.slots[seg.slot].file_intent)
        seg.slots[seg.slot].file_intent = 0
    if seg.slots[seg.slot].intent:
        release_intent(seg, seg.slot)
        crash_point(seg, CRASH_DELETE_DONE)
        ring_space_waiters(seg)
