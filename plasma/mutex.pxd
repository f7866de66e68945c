"""Robust process-shared locks. Whoever gets a lock whose owner died repairs what it guards, then goes on.

Order: a shard's lock or the clients' lock, alone; the allocator's lock, alone. Only rebuild_allocator() and audit hold
several: all shards ascending, then the allocator. Nobody waits for a second lock while holding a first elsewhere, so no
cycle can form.
"""
from libc.stdint cimport uint32_t
from plasma._c.posix cimport pl_mutex_lock, pl_mutex_repaired, pl_mutex_unlock
from plasma.layout cimport Segment

cdef void lock_broken() noexcept nogil

cdef inline void lock_shard(Segment* seg, uint32_t shard) noexcept nogil:
    cdef int rc = pl_mutex_lock(seg.shards[shard].mutex)
    if rc != 0:
        if rc < 0:
            lock_broken()
        seg.repair_shard(seg, shard)
        pl_mutex_repaired(seg.shards[shard].mutex)

cdef inline void unlock_shard(Segment* seg, uint32_t shard) noexcept nogil:
    pl_mutex_unlock(seg.shards[shard].mutex)

cdef inline void lock_clients(Segment* seg) noexcept nogil:
    cdef int rc = pl_mutex_lock(seg.header.clients_mutex)
    if rc != 0:
        if rc < 0:
            lock_broken()
        seg.repair_clients(seg)
        pl_mutex_repaired(seg.header.clients_mutex)

cdef inline void unlock_clients(Segment* seg) noexcept nogil:
    pl_mutex_unlock(seg.header.clients_mutex)

cdef inline bint try_lock_allocator(Segment* seg) noexcept nogil:
    """False, and not held: the free map is dirty and must be rebuilt first, which takes every lock."""
    cdef int rc = pl_mutex_lock(seg.allocator.mutex)
    if rc != 0:
        if rc < 0:
            lock_broken()
        seg.allocator.dirty = 1
        pl_mutex_repaired(seg.allocator.mutex)
    if seg.allocator.dirty:
        pl_mutex_unlock(seg.allocator.mutex)
        return False
    return True

cdef inline void lock_allocator(Segment* seg) noexcept nogil:
    while not try_lock_allocator(seg):
        seg.rebuild_allocator(seg)

cdef inline void unlock_allocator(Segment* seg) noexcept nogil:
    pl_mutex_unlock(seg.allocator.mutex)
