from libc.stdint cimport uint32_t
from plasma._c.posix cimport add32, load32, store32
from plasma.doorbell cimport ring_for_event
from plasma.layout cimport WATCHING, SLOT_ACTIVE, Segment
from plasma.pins cimport hold_is_empty, remove_hold


cdef void ring_watchers(Segment* seg, uint32_t e) noexcept nogil:
    """Under the lock of the entry's shard, after its state changed for good. A watch is for once."""
    cdef uint32_t h = seg.entries[e].holders, following
    while h:
        following = seg.holds[h].next_of_entry
        if seg.holds[h].flags & WATCHING:
            seg.holds[h].flags &= ~<uint32_t>WATCHING
            ring_for_event(seg, seg.holds[h].slot)
            if hold_is_empty(&seg.holds[h]):
                remove_hold(seg, h)
        h = following


cdef void announce_space_waiter(Segment* seg) noexcept nogil:
    store32(&seg.slots[seg.slot].space_wanted, 1)
    add32(&seg.header.space_waiters, 1)


cdef void retire_space_waiter(Segment* seg) noexcept nogil:
    store32(&seg.slots[seg.slot].space_wanted, 0)
    add32(&seg.header.space_waiters, <uint32_t>-1)


cdef void ring_space_waiters_slow(Segment* seg) noexcept nogil:
    cdef uint32_t i
    for i in range(1, seg.header.slot_high + 1):
        if load32(&seg.slots[i].space_wanted) and seg.slots[i].state == SLOT_ACTIVE:
            ring_for_event(seg, i)
