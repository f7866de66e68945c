"""An object that is promised before it is made, and again when its data is gone."""
from libc.stdint cimport uint64_t
from plasma.layout cimport Segment

cdef int declare(Segment* seg, uint64_t hi, uint64_t lo, uint64_t owner) noexcept nogil
cdef int abandon(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef int renew(Segment* seg, uint64_t hi, uint64_t lo, uint64_t owner) noexcept nogil
