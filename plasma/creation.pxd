"""Making an object although the store is full."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.attachment cimport Client
from plasma.channel cimport Endpoint
from plasma.spiller cimport Spiller

cdef int create_when_room(Client client, Endpoint endpoint, Spiller spiller, uint64_t hi, uint64_t lo, uint64_t size,
                          uint32_t flags, uint64_t holder, uint32_t count, timeout_s, uint32_t* entry, uint32_t* hold,
                          bint* fresh) except -1
