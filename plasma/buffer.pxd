from libc.stdint cimport uint32_t, uint64_t
from plasma.attachment cimport Client

cdef class Buffer:
    """A pinned, read-only view of a sealed object."""
    cdef Client client              # keeps the mapping; its ledger has the pin
    cdef const char* start
    cdef Py_ssize_t size
    cdef uint32_t entry
    cdef uint32_t hold
    cdef int exports                # views made of it that are alive
    cdef bint released
    cdef readonly bytes object_id
    cdef void _unpin(self) noexcept

cdef class Allocation:
    """An object being written by this process."""
    cdef Client client
    cdef char* start
    cdef Py_ssize_t size
    cdef uint32_t entry
    cdef uint32_t hold              # pin: kept after the seal, because the creator's views live on
    cdef int phase
    cdef uint32_t exports
    cdef readonly bint fresh        # nobody has used this memory since the store was made
    cdef readonly bytes object_id
    cdef object __weakref__
    cdef bint _protect(self, bint readonly) noexcept

cdef class PrivatePages:
    """A writable view of a sealed object whose changes stay in this process."""
    cdef Buffer source              # its pin keeps the pages that were not written to what they are
    cdef void* pages
    cdef size_t mapped
    cdef char* start
    cdef Py_ssize_t size

cdef Buffer make_buffer(Client client, bytes object_id, uint32_t entry, uint32_t hold)
cdef Allocation make_allocation(Client client, bytes object_id, uint32_t entry, uint32_t hold, bint fresh)
