"""Agents keep entries: for somebody outside the segment, until nobody here needs them. See the essay in keeping.pyx."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef int keep(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil
cdef int unkeep(Segment* seg, uint64_t hi, uint64_t lo, bint only_unneeded) noexcept nogil
cdef bint is_needed(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef uint32_t take_unneeded(Segment* seg, uint64_t* ids, uint32_t limit) noexcept nogil
cdef int drop_copy(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
