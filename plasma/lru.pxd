"""Least recently used: the unpinned, unreferenced SEALED objects of a shard, in a list. Under the shard's lock."""
from libc.stdint cimport uint32_t
from plasma.layout cimport IN_LRU, Entry, Segment, Shard, shard_of_entry


cdef inline void lru_add(Segment* seg, uint32_t e) noexcept nogil:
    cdef Shard* s = &seg.shards[shard_of_entry(seg, e)]
    cdef Entry* entry = &seg.entries[e]
    if entry.flags & IN_LRU:
        return
    entry.flags |= IN_LRU
    entry.lru_newer = 0
    entry.lru_older = s.lru_newest
    if s.lru_newest:
        seg.entries[s.lru_newest].lru_newer = e
    else:
        s.lru_oldest = e
    s.lru_newest = e

cdef inline void lru_remove(Segment* seg, uint32_t e) noexcept nogil:
    cdef Shard* s = &seg.shards[shard_of_entry(seg, e)]
    cdef Entry* entry = &seg.entries[e]
    if not entry.flags & IN_LRU:
        return
    entry.flags &= ~<uint32_t>IN_LRU
    if entry.lru_newer:
        seg.entries[entry.lru_newer].lru_older = entry.lru_older
    else:
        s.lru_newest = entry.lru_older
    if entry.lru_older:
        seg.entries[entry.lru_older].lru_newer = entry.lru_newer
    else:
        s.lru_oldest = entry.lru_newer
