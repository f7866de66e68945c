"""Waiting for a seal and waiting for space: both end with the waiter's bell."""
from libc.stdint cimport uint32_t
from plasma.layout cimport Segment

cdef void ring_watchers(Segment* seg, uint32_t entry, bint after_death) noexcept nogil
cdef void announce_space_waiter(Segment* seg) noexcept nogil
cdef void retire_space_waiter(Segment* seg) noexcept nogil
cdef void ring_space_waiters_slow(Segment* seg) noexcept nogil

cdef inline void ring_space_waiters(Segment* seg) noexcept nogil:
    if seg.header.space_waiters:
        ring_space_waiters_slow(seg)
