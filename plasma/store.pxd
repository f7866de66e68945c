from libc.stdint cimport uint32_t, uint64_t
from plasma.channel cimport Endpoint
from plasma.holding cimport Holder
from plasma.spiller cimport Spiller

cdef class Store(Holder):
    cdef readonly Endpoint endpoint
    cdef Spiller spiller
    cdef object __weakref__
    cdef object _lookup(self, bytes object_id)
    cdef int _create(self, bytes object_id, size_bytes, uint32_t flags, owner, contained, bint referenced, timeout_s,
                     uint32_t* entry, uint32_t* hold, bint* fresh) except -1
