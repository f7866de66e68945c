"""Create, attach and detach one segment, with its two mappings.

Object data is mapped twice: writable, used between create and seal only, and PROT_READ, from which every get is served.
So a sealed object is immutable because the MMU says so, even against C code.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_warmer
from plasma.layout cimport Common, Segment

cdef class Arena:
    cdef Segment seg                # of no client: each has a copy
    cdef Common common
    cdef uint32_t clients           # of this process, in this mapping: attachment.pyx counts them
    cdef readonly int fd
    cdef readonly uint64_t size_bytes
    cdef void* sealed_map
    cdef readonly uint64_t sealed_bytes      # of the data region
    cdef readonly uint64_t objects_bytes     # of it, what objects may take
    cdef pl_warmer warmer
    cdef int owner_pid              # the warmer's thread is in no forked child
    cdef void warm_ahead(self) noexcept
    cdef void release(self) noexcept
    cdef bint protect(self, uint64_t offset, uint64_t size, bint readonly) noexcept
    cdef int give_back(self, uint64_t offset, uint64_t size) noexcept
