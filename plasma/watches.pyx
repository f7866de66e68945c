"""Marks in the ledger of those who wait for an object: a watch rings once, a wait is a thread that sleeps."""
from libc.stdint cimport uint32_t, uint64_t
from plasma.deletion cimport settle
from plasma.layout cimport CREATED, DELETED, FREE, PENDING, WATCHING, Segment, shard_of_id
from plasma.lifecycle cimport OK, let_go, record
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry
from plasma.pins cimport find_hold


cdef int watch(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil:
    """Rings this client's bell when the object is sealed or lost; an unknown one becomes PENDING, promised by nobody."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e and seg.entries[e].state != PENDING and seg.entries[e].state != CREATED:
        state[0] = FREE if seg.entries[e].state == DELETED else seg.entries[e].state
        unlock_shard(seg, shard)
        return OK
    status = record(seg, hi, lo, seg.slot, &e, &h)
    if status == OK:
        seg.holds[h].flags |= WATCHING
        state[0] = seg.entries[e].state
    unlock_shard(seg, shard)
    return status


cdef void unwatch(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    h = find_hold(seg, e, seg.slot) if e else 0
    if h == 0 or not seg.holds[h].flags & WATCHING:
        unlock_shard(seg, shard)
        return
    seg.holds[h].flags &= ~<uint32_t>WATCHING
    let_go(seg, e, h)
    settle(seg, e)


cdef int wait_for(Segment* seg, uint64_t hi, uint64_t lo, bint first, uint32_t* state) noexcept nogil:
    """Marks that a thread of this client sleeps until the object is sealed or lost (first: its first look), and tells the
    state. The mark is counted, so that threads don't take down each other's, and stays until stop_waiting_for(): what
    is lost remains to be seen. DELETED: somebody still reads it, and nobody will ring when it is gone."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e and seg.entries[e].state != PENDING and seg.entries[e].state != CREATED:
        state[0] = seg.entries[e].state
        unlock_shard(seg, shard)
        return OK
    status = record(seg, hi, lo, seg.slot, &e, &h)
    if status == OK:
        if first or seg.holds[h].waits == 0:     # 0: it was sealed, deleted and promised again since the last look
            seg.holds[h].waits += 1
        state[0] = seg.entries[e].state
    unlock_shard(seg, shard)
    return status


cdef void stop_waiting_for(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    h = find_hold(seg, e, seg.slot) if e else 0
    if h == 0 or seg.holds[h].waits == 0:
        unlock_shard(seg, shard)
        return
    seg.holds[h].waits -= 1
    let_go(seg, e, h)
    settle(seg, e)
