"""Blocks and files that are in nobody's entry (any more), named in the slot of whoever has them."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef void set_intent(Segment* seg, uint32_t entry) noexcept nogil
cdef void set_file_intent(Segment* seg, uint32_t entry) noexcept nogil
cdef void free_intent(Segment* seg) noexcept nogil
cdef void remove_file(Segment* seg, uint64_t number) noexcept nogil
