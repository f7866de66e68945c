"""Messages between clients: a ring per ordered pair and lane, one bell per client."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from plasma.attachment cimport Client
from plasma.layout cimport RingHeader, Slot
from plasma.patience cimport Patience

cdef struct Inlet:
    RingHeader* ring
    uint32_t entry
    uint32_t hold
    void* sender                    # a Python int, owned

cdef class Sender

cdef class Endpoint:
    cdef Client client
    cdef Inlet* inlets[2]
    cdef uint32_t inlet_count[2]
    cdef uint32_t inlet_room[2]
    cdef uint32_t cursor[2]
    cdef uint32_t inbox_seen
    cdef int sleeping[3]            # threads of this process in wait(): for CONTROL, for WORK, all
    cdef int loop_fd
    cdef Patience patience
    cdef dict senders
    cdef object __weakref__
    cdef void accept(self) noexcept
    cdef bint anything(self, uint32_t mask) noexcept
    cdef bytes take(self, uint32_t lane, void** sender)
    cdef Sender _open(self, uint64_t address, uint32_t lane)
    cdef bint _look(self, uint32_t mask, uint32_t bell, int64_t left)
    cdef void _count_sleeper(self, Slot* slot, uint32_t flags, int by) noexcept
    cdef void _tell_room(self, RingHeader* ring) noexcept
    cdef void forget(self, uint32_t lane, uint32_t index) noexcept

cdef class Sender:
    cdef Client client
    cdef RingHeader* ring
    cdef uint32_t entry
    cdef uint32_t hold
    cdef uint32_t lane
    cdef uint32_t peer_slot
    cdef readonly uint64_t address
