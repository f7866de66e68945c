from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport SHARD_COUNT, Segment
from plasma.lifecycle cimport OK, delete


cdef uint32_t oldest_of_all(Segment* seg) noexcept nogil:
    """The oldest of the shards' oldest. Read without their locks: a stale look is noticed when it is acted on."""
    cdef uint64_t age = ~<uint64_t>0
    cdef uint32_t shard, e, oldest = 0
    for shard in range(SHARD_COUNT):
        e = seg.shards[shard].lru_oldest
        if e and e >> seg.entry_shift == shard and seg.entries[e].used_at_ns < age:
            age = seg.entries[e].used_at_ns
            oldest = e
    return oldest


cdef bint make_room(Segment* seg, uint64_t need) noexcept nogil:
    """Evicts objects worth `need` bytes, as far as there are any. False: nothing was evictable."""
    cdef uint64_t freed = 0, hi, lo, size
    cdef uint32_t e, attempts = 0
    while freed < need:
        e = oldest_of_all(seg)
        if e == 0:
            break
        hi = seg.entries[e].id_hi
        lo = seg.entries[e].id_lo
        size = seg.entries[e].allocated_bytes
        if delete(seg, hi, lo, True, 0) == OK:
            freed += size
        else:
            attempts += 1                # somebody else took it between the look and the lock
            if attempts > 100:
                break
    return freed > 0
