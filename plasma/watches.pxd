"""Waiting for an object: the holder's bell rings when it is sealed or lost (waiters.pyx does the ringing)."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef int watch(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil
cdef void unwatch(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef int wait_for(Segment* seg, uint64_t hi, uint64_t lo, bint first, uint32_t* state) noexcept nogil
cdef void stop_waiting_for(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
