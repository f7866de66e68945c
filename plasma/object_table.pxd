"""id -> entry, within one shard and under its lock. No policy: states and counts belong to lifecycle and pins.

Chained buckets of indices into a dense pool of entries, not open addressing: a chain needs no tombstones,
a table of a million mostly unused entries touches only the pages in use, and it is rebuilt by one pass over the pool.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport Entry, Segment, mix_id

cdef uint32_t take_entry(Segment* seg, uint32_t shard) noexcept nogil
cdef void give_entry(Segment* seg, uint32_t entry) noexcept nogil
cdef void link_entry(Segment* seg, uint32_t entry) noexcept nogil
cdef void unlink_entry(Segment* seg, uint32_t entry) noexcept nogil
cdef void rebuild_table(Segment* seg, uint32_t shard) noexcept nogil

cdef inline uint32_t* bucket_of(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint64_t h = mix_id(hi, lo)
    cdef uint32_t shard = <uint32_t>(h & 15)
    return &seg.buckets[(shard << seg.entry_shift) + ((h >> 4) & ((<uint32_t>1 << seg.entry_shift) - 1))]

cdef inline uint32_t find_entry(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t e = bucket_of(seg, hi, lo)[0]
    while e:
        if seg.entries[e].id_lo == lo and seg.entries[e].id_hi == hi:
            return e
        e = seg.entries[e].next_in_bucket
    return 0
