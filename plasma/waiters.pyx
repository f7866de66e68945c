from libc.stdint cimport uint32_t
from plasma._c.posix cimport add32, full_fence, load32, store32
from plasma.doorbell cimport ring_all, ring_for_event
from plasma.layout cimport PROMISING, SLOT_ACTIVE, WATCHING, Segment
from plasma.pins cimport hold_is_empty, keeps_nothing, remove_hold


cdef void ring_watchers(Segment* seg, uint32_t e, bint after_death) noexcept nogil:
    """Under the lock of the entry's shard, after its state changed for good. A watch is for once, and is taken down
    after the ring: should we die between, the repair of the shard rings again (after_death). A promise is over."""
    cdef uint32_t h = seg.entries[e].holders, following
    while h:
        following = seg.holds[h].next_of_entry
        if seg.holds[h].flags & WATCHING or seg.holds[h].waits:
            if after_death:
                ring_all(seg, seg.holds[h].slot)
            else:
                ring_for_event(seg, seg.holds[h].slot)
            seg.holds[h].flags &= ~<uint32_t>(WATCHING | PROMISING)
            if hold_is_empty(&seg.holds[h]):
                remove_hold(seg, h)
        elif keeps_nothing(&seg.holds[h]):
            remove_hold(seg, h)          # with its mark: a promise alone was no use of the object
        else:
            seg.holds[h].flags &= ~<uint32_t>PROMISING
        h = following


cdef void announce_space_waiter(Segment* seg) noexcept nogil:
    add32(&seg.slots[seg.slot].space_wanted, 1)
    store32(&seg.header.space_waiters, 1)
    full_fence()                         # SYNC: want/free. The caller looks for space once more.


cdef void retire_space_waiter(Segment* seg) noexcept nogil:
    add32(&seg.slots[seg.slot].space_wanted, <uint32_t>-1)


cdef void ring_space_waiters_slow(Segment* seg) noexcept nogil:
    cdef uint32_t i
    store32(&seg.header.space_waiters, 0)
    full_fence()                         # SYNC: want/free. Whoever announces from here on sets it again.
    for i in range(1, seg.header.slot_high + 1):
        if load32(&seg.slots[i].space_wanted) and seg.slots[i].state == SLOT_ACTIVE:
            store32(&seg.header.space_waiters, 1)
            ring_for_event(seg, i)
