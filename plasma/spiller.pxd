"""One client's hand in moving objects to disk and back."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.attachment cimport Client
from plasma.channel cimport Endpoint

cdef class Spiller:
    cdef Client client
    cdef Endpoint endpoint
    cdef object lock                # a slot names one range of files: one spill of this client at a time
    cdef bint spilling
    cdef readonly object out_of_disk    # the last refusal of the disk; None after a success
    cdef bint make_room(self, uint64_t need) except -1
    cdef object load(self, bytes object_id)
    cdef uint64_t _write(self, list batch) except? 0
    cdef uint64_t _number(self, uint64_t count) noexcept
    cdef int _directory(self, bint create) except -1
