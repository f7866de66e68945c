from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport CHANNEL, FREE, Entry, Segment, Shard, shard_of_entry


cdef uint32_t take_entry(Segment* seg, uint32_t shard) noexcept nogil:
    """An unused entry (state FREE), or 0 when the shard is full."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t e = s.entry_free
    if e:
        s.entry_free = seg.entries[e].next_in_bucket
    else:
        if s.entry_high + 1 >= <uint32_t>1 << seg.entry_shift:
            return 0
        s.entry_high += 1                # local index 0 of each shard stays unused, so that no index is 0
        e = (shard << seg.entry_shift) + s.entry_high
    s.entries_used += 1
    return e


cdef void give_entry(Segment* seg, uint32_t e) noexcept nogil:
    cdef Shard* s = &seg.shards[shard_of_entry(seg, e)]
    seg.entries[e].next_in_bucket = s.entry_free
    s.entry_free = e
    s.entries_used -= 1


cdef void link_entry(Segment* seg, uint32_t e) noexcept nogil:
    cdef uint32_t* bucket
    if seg.entries[e].flags & CHANNEL:
        return
    bucket = bucket_of(seg, seg.entries[e].id_hi, seg.entries[e].id_lo)
    seg.entries[e].next_in_bucket = bucket[0]
    bucket[0] = e


cdef void unlink_entry(Segment* seg, uint32_t e) noexcept nogil:
    cdef uint32_t* link
    if seg.entries[e].flags & CHANNEL:
        return
    link = bucket_of(seg, seg.entries[e].id_hi, seg.entries[e].id_lo)
    while link[0]:
        if link[0] == e:
            link[0] = seg.entries[e].next_in_bucket
            return
        link = &seg.entries[link[0]].next_in_bucket


cdef void rebuild_table(Segment* seg, uint32_t shard) noexcept nogil:
    """Buckets and free list from the entries' states."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t base = shard << seg.entry_shift
    cdef uint32_t i
    for i in range(<uint32_t>1 << seg.entry_shift):
        seg.buckets[base + i] = 0
    s.entry_free = 0
    s.entries_used = 0
    for i in range(s.entry_high, 0, -1):
        if seg.entries[base + i].state == FREE:
            seg.entries[base + i].next_in_bucket = s.entry_free
            s.entry_free = base + i
        else:
            s.entries_used += 1
            link_entry(seg, base + i)
