"""Promises: an object that is announced before it is made, given up, or announced once more when its data is gone.

    FREE ──declare──▶ PENDING ──abandon──▶ LOST
    DELETED, LOST ──renew──▶ PENDING

A promise is its promiser's (`Entry.owner`), and on record in the promiser's ledger: by what it holds of the object itself, or
by PROMISING where that is nothing. So its reaper finds it, and whoever waits hears that the object won't come. The rules are
those of lifecycle.pyx.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport store32
from plasma.deletion cimport settle
from plasma.layout cimport CREATED, DELETED, GIVEN_UP, KEPT, LOST, PENDING, PROMISING, REFERENCED, Entry, Segment, shard_of_id
from plasma.lifecycle cimport ABSENT, EXISTS, LEDGER_FULL, NOT_SEALED, OK, OWNER_GONE, client_is, lose_locked, record
from plasma.lru cimport lru_remove
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry
from plasma.pins cimport change_refs, hold_for, hold_is_empty, remove_hold


cdef int declare(Segment* seg, uint64_t hi, uint64_t lo, uint64_t owner) noexcept nogil:
    """This client promises the object, and `owner`, itself or another, gets a reference on it.

    The reference is its only one: a client for which the object has been stored already keeps just that. A promise for
    another is on record (PROMISING), for our reaper to find it, and keeps nothing: without holders there is none.
    """
    cdef uint32_t shard = shard_of_id(hi, lo), e, h, mine
    cdef Entry* entry
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e and seg.entries[e].state == DELETED:
        status = EXISTS
    elif owner != seg.address and not client_is(seg, owner):
        status = OWNER_GONE
    else:
        status = record(seg, hi, lo, <uint32_t>(owner & 0xFFFF), &e, &h)
    if status != OK:
        unlock_shard(seg, shard)
        return status
    entry = &seg.entries[e]
    if owner != seg.address and (entry.owner == 0 or entry.owner == seg.address) and (
            entry.state == PENDING or entry.state == CREATED):
        mine = hold_for(seg, e, seg.slot)
        if mine == 0:
            if hold_is_empty(&seg.holds[h]):
                remove_hold(seg, h)
            settle(seg, e)
            return LEDGER_FULL
        if hold_is_empty(&seg.holds[mine]):
            seg.holds[mine].flags |= PROMISING
    if entry.state == PENDING or seg.holds[h].refs == 0:
        change_refs(seg, h, 1)
    elif entry.given_to == owner:
        entry.given_to = 0               # no longer the maker's to take back
    entry.flags |= REFERENCED
    lru_remove(seg, e)
    if entry.owner == 0:
        entry.owner = seg.address
    unlock_shard(seg, shard)
    return OK


cdef int abandon(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e == 0 or seg.entries[e].state != PENDING:
        unlock_shard(seg, shard)
        return ABSENT
    lose_locked(seg, e)
    settle(seg, e)
    return OK


cdef int renew(Segment* seg, uint64_t hi, uint64_t lo, uint64_t owner) noexcept nogil:
    """The object is held and its data is gone: `owner` promises it once more. All holds stay, and the owner has a
    reference if it had none: should it die, its reaper finds the promise.

    ABSENT: nobody holds it. EXISTS: it is promised or here. NOT_SEALED: deleted, and its memory is still being read."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef Entry* entry
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    entry = &seg.entries[e]
    if e == 0 or (entry.state == DELETED and entry.refs == 0 and not entry.flags & KEPT):
        unlock_shard(seg, shard)
        return ABSENT
    if (entry.state != DELETED and entry.state != LOST) or entry.flags & GIVEN_UP:
        unlock_shard(seg, shard)
        return EXISTS
    if entry.block or entry.file or entry.contained_count:
        unlock_shard(seg, shard)
        return NOT_SEALED
    if not client_is(seg, owner):
        unlock_shard(seg, shard)
        return OWNER_GONE
    h = hold_for(seg, e, <uint32_t>(owner & 0xFFFF))
    if h == 0:
        unlock_shard(seg, shard)
        return LEDGER_FULL
    if seg.holds[h].refs == 0:
        change_refs(seg, h, 1)
    entry.flags = REFERENCED | entry.flags & KEPT
    entry.size_bytes = 0
    entry.allocated_bytes = 0
    entry.creator = 0
    entry.given_to = 0
    entry.owner = owner
    store32(&entry.state, PENDING)
    unlock_shard(seg, shard)
    return OK
