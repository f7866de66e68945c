"""Room by eviction: least recently used objects that nobody pins and nobody references. eviction.py states the rule."""
from libc.stdint cimport uint64_t
from plasma.layout cimport Segment

cdef bint make_room(Segment* seg, uint64_t need) noexcept nogil
