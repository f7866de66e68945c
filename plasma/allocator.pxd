"""Offsets in, offsets out: a two-level segregated-fit allocator over the data region (TLSF; Masmano et al., ECRTS 2004).

Two differences from the paper: block records live beside the data, not in it (a free touches no cold page, and data may
be mapped read-only); and the exact class is searched before the next larger one, so that the extent just freed is found
again by a request of its size, warm pages and all. Fresh memory is taken only when no freed extent fits.

A block in nobody's entry is in its client's `intent`, set and cleared under the allocator's lock: that is how a block
survives neither lost nor shared when its client dies between the allocator and the table.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef bint allocate(Segment* seg, uint64_t size, uint64_t alignment, uint32_t use, bint* fresh) noexcept nogil
cdef void release_intent(Segment* seg, uint32_t slot) noexcept nogil
cdef void reset(Segment* seg) noexcept nogil
cdef uint32_t append_used(Segment* seg, uint64_t offset, uint64_t size, uint32_t entry, uint32_t use) noexcept nogil
cdef uint64_t largest_free(Segment* seg) noexcept nogil
cdef uint64_t free_bytes(Segment* seg) noexcept nogil
cdef const char* check_blocks(Segment* seg, uint64_t* used_bytes) noexcept nogil
