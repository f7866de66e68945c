"""An object's ways to the disk and back, under its shard's lock. What is in the files is spill.py's business."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef struct Victim:                     # an object that may go to disk, as a look without locks saw it
    uint64_t used_at_ns
    uint64_t bytes
    uint32_t entry

cdef uint32_t choose_victims(Segment* seg, uint64_t need, Victim** victims) noexcept nogil
cdef uint32_t pin_victim(Segment* seg, uint32_t entry) noexcept nogil
cdef bint commit_spill(Segment* seg, uint32_t entry, uint32_t hold, uint64_t file) noexcept nogil
cdef int claim(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* entry, uint32_t* hold) noexcept nogil
cdef int commit_restore(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef void unfill_locked(Segment* seg, uint32_t entry) noexcept nogil
cdef void give_up_restore(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef void lose_unreadable(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef int watch_restore(Segment* seg, uint64_t hi, uint64_t lo, uint64_t* filler) noexcept nogil
cdef int find_file(Segment* seg, uint64_t hi, uint64_t lo, uint64_t* file, uint64_t* size) noexcept nogil
cdef uint64_t payload_bytes(Segment* seg, uint32_t entry) noexcept nogil
