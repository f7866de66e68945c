"""A single-producer single-consumer ring of messages in shared memory. No waiting and no wake-ups: channel.pyx adds them.

Positions only grow; position % capacity is the place. A record is published by moving `tail` (SYNC: publish/take), taken
by a compare-and-swap of its state, so that the producer may revoke what has not been taken, and passed by moving `head`.
A producer that dies in the middle of a message has not moved `tail`: nobody sees it.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Record, RingHeader, Segment

cdef enum:
    RING_BYTES = 256 * 1024         # in one direction; only touched pages cost memory
    MESSAGE_MAX = 128 * 1024 - 16   # a record and the padding before it always fit an empty ring

cdef uint64_t ring_send(Segment* seg, RingHeader* ring, const char* payload, uint32_t size) noexcept nogil
cdef bint ring_revoke(RingHeader* ring, uint64_t ticket) noexcept nogil
cdef const char* ring_take(Segment* seg, RingHeader* ring, uint32_t* size, uint64_t* next_head) noexcept nogil
cdef void ring_pass(RingHeader* ring, uint64_t next_head) noexcept nogil
cdef uint64_t ring_used(const RingHeader* ring) noexcept nogil
