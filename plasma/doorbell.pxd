"""One bell per client: a futex word for its threads, another for its background thread, a datagram for its event loop.

A consumer sleeps only after announcing it in `waiting`, and a producer rings only when it finds an announcement, so a
busy pair makes no system call. The race between the two is closed on both sides (SYNC: sleep/publish): the consumer
announces and then looks once more; the producer publishes and then looks at the announcement; a full fence between the
two halves of each means that at least one of them sees the other.
"""
from libc.stdint cimport int64_t, uint32_t
from plasma.layout cimport Segment

cdef void ring_for_message(Segment* seg, uint32_t slot, uint32_t lane) noexcept nogil
cdef void ring_for_event(Segment* seg, uint32_t slot) noexcept nogil
cdef void ring_all(Segment* seg, uint32_t slot) noexcept nogil
