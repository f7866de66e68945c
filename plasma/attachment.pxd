"""This process as a client of one segment: its slot, and how it leaves. It may be several, in one mapping.

Fork makes no second owner of a slot: the child notices at its first operation, and closes its copy of the liveness
lock's descriptor at once.
"""
from libc.stdint cimport uint32_t
from plasma.arena cimport Arena
from plasma.layout cimport Segment

cdef class Client:
    """Views of objects keep it alive, and it keeps the mapping."""
    cdef Arena arena                # owns the mapping that seg points into
    cdef Segment view               # the arena's, as this client
    cdef Segment* seg               # to `view`
    cdef bint joined                # counted among the arena's clients
    cdef uint32_t fork_depth
    cdef bint open                  # registered; false after leave()
    cdef bint closing               # close() was called: new operations are refused, views still drain
    cdef long views                 # Buffers, Allocations and sleeping threads: the mapping outlives them
    cdef object __weakref__
    cdef int check(self) except -1
    cdef bint usable(self) noexcept
    cdef void view_gone(self) noexcept
    cdef void leave(self) noexcept
