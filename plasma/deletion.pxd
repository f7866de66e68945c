"""The end of an object. Each under the lock of its shard, unless it says otherwise."""
from libc.stdint cimport uint32_t
from plasma._c.posix cimport store32
from plasma.layout cimport CRASH_DELETE_MARKED, DELETED, SEALED, SPILLED, Segment, crash_point
from plasma.lru cimport lru_remove

cdef bint is_doomed(Segment* seg, uint32_t entry) noexcept nogil
cdef void free_locked(Segment* seg, uint32_t entry) noexcept nogil
cdef void drop_contained(Segment* seg, uint32_t entry, uint32_t* chain) noexcept nogil
cdef void finish(Segment* seg, uint32_t chain) noexcept nogil
cdef void settle(Segment* seg, uint32_t entry) noexcept nogil

cdef inline void mark_deleted(Segment* seg, uint32_t e) noexcept nogil:
    if seg.entries[e].state == SEALED or seg.entries[e].state == SPILLED:
        lru_remove(seg, e)
        store32(&seg.entries[e].state, DELETED)
        crash_point(seg, CRASH_DELETE_MARKED)
