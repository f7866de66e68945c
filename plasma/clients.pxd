"""Slots of live processes: a slot is alive while its liveness lock (posix.h) is held."""
from libc.stdint cimport uint32_t
from plasma.layout cimport Segment

cdef uint32_t register(Segment* seg, const char* name, bint agent) noexcept nogil
cdef void give_slot(Segment* seg, uint32_t slot) noexcept nogil
cdef bint claim_dead(Segment* seg, uint32_t slot) noexcept nogil
cdef void rebuild_slots(Segment* seg) noexcept nogil
