from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Segment

cdef void install_repairs(Segment* seg) noexcept nogil
cdef void repair_shard(Segment* seg, uint32_t shard) noexcept nogil
cdef void repair_clients(Segment* seg) noexcept nogil
cdef void rebuild_allocator(Segment* seg) noexcept nogil
cdef void clear_slot(Segment* seg, uint32_t slot) noexcept nogil
cdef bint reap_slot(Segment* seg, uint32_t slot) noexcept nogil
cdef uint32_t reap_all(Segment* seg) noexcept nogil
