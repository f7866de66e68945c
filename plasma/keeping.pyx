"""What agents do: keep an entry whatever becomes of its holders, hear that nobody uses it any more, give up its copy.

An agent is a client that acts for somebody outside the segment. What it keeps (a hold that is KEEPING, and KEPT in the
entry's flags) is neither freed with its last reference nor evicted. What agents hold is no *use* of an object: uses are the
records of other clients, and of objects that contain it. When a kept entry loses its last use, its keepers' records
are marked UNNEEDED and lie in a list of their own, a list a shard, so that news cost what there is of them and nothing else.

    kept ──the last use goes──▶ UNNEEDED ──take_unneeded──▶ kept, and told
                                    └──used again, then taken──▶ kept, and not told

The mark is the truth, and is made before the use goes (pins.pyx); lists and `Slot.news` are derived. The keeper looks at the
uses when it takes the news: a mark left by a death before the use went, or a use that came since, is passed over.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport and32, load32, store32
from plasma.deletion cimport settle
from plasma.layout cimport (
    CRASH_DROP_CLAIMED, CRASH_KEEP_HELD, CRASH_KEEP_KEPT, CRASH_UNKEEP_UNMARKED, CRASH_UNNEEDED_TAKEN, CREATED, DELETED, FREE,
    FREED, GIVEN_UP, KEEPING, KEPT, REFERENCED, SEALED, SHARD_COUNT, SPILLED, UNNEEDED, Entry, Segment, Slot, crash_point,
    shard_of_id,
)
from plasma.lifecycle cimport ABSENT, EXISTS, NOT_SEALED, OK, abort_locked, let_go, record
from plasma.lru cimport lru_remove
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry
from plasma.pins cimport change_pins, find_hold, is_used, unmark_kept, unmark_unneeded


cdef int keep(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil:
    """This client keeps the entry from here on, and tells its state; an unknown one becomes PENDING, promised by this client.
    Keeping is like referencing: what is kept is freed, not evicted, when nobody wants it. What is deleted is not kept."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e and seg.entries[e].state == DELETED:
        state[0] = FREED if seg.entries[e].flags & GIVEN_UP else FREE
        unlock_shard(seg, shard)
        return OK
    status = record(seg, hi, lo, seg.slot, &e, &h)
    if status == OK:
        crash_point(seg, CRASH_KEEP_HELD)
        seg.holds[h].flags |= KEEPING
        crash_point(seg, CRASH_KEEP_KEPT)
        lru_remove(seg, e)
        seg.entries[e].flags |= KEPT | REFERENCED
        if seg.entries[e].owner == 0:
            seg.entries[e].owner = seg.address
        state[0] = seg.entries[e].state
    unlock_shard(seg, shard)
    return status


cdef int unkeep(Segment* seg, uint64_t hi, uint64_t lo, bint only_unneeded) noexcept nogil:
    """Gives the keep up, and with it the news of it. EXISTS: it is in use, and stays kept. ABSENT: this client doesn't
    keep it."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    h = find_hold(seg, e, seg.slot) if e else 0
    if h == 0 or not seg.holds[h].flags & KEEPING:
        unlock_shard(seg, shard)
        return ABSENT
    if only_unneeded and is_used(seg, e, 0):
        unlock_shard(seg, shard)
        return EXISTS
    if seg.holds[h].flags & UNNEEDED:
        unmark_unneeded(seg, h)
    seg.holds[h].flags &= ~<uint32_t>KEEPING
    crash_point(seg, CRASH_UNKEEP_UNMARKED)
    unmark_kept(seg, h)
    let_go(seg, e, h)
    settle(seg, e)
    return OK


cdef bint is_needed(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e
    cdef bint used
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    used = e != 0 and is_used(seg, e, 0)
    unlock_shard(seg, shard)
    return used


cdef uint32_t take_unneeded(Segment* seg, uint64_t* ids, uint32_t limit) noexcept nogil:
    """Writes up to `limit` ids of entries that this client keeps and that have lost their last use; how many."""
    cdef Slot* slot = &seg.slots[seg.slot]
    cdef uint32_t shard, h, e, count = 0, news = load32(&slot.news)
    for shard in range(SHARD_COUNT):
        if not news >> shard & 1:
            continue
        lock_shard(seg, shard)
        while slot.unneeded[shard] and count < limit:
            h = slot.unneeded[shard]
            e = seg.holds[h].entry
            unmark_unneeded(seg, h)
            crash_point(seg, CRASH_UNNEEDED_TAKEN)
            if not is_used(seg, e, 0):
                ids[2 * count] = seg.entries[e].id_hi
                ids[2 * count + 1] = seg.entries[e].id_lo
                count += 1
        if slot.unneeded[shard] == 0:
            and32(&slot.news, ~(<uint32_t>1 << shard))
        unlock_shard(seg, shard)
    return count


cdef int drop_copy(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    """Gives up the data, in memory and on disk, of an object that this client keeps; keeps and references stay, and this
    client promises it anew. It becomes the creator of an object half made, and aborts that: what it contained goes with
    it, and should we die our reaper goes on.

    NOT_SEALED: there is no copy, or it is pinned. ABSENT: this client doesn't keep it."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef Entry* entry
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    entry = &seg.entries[e]
    h = find_hold(seg, e, seg.slot) if e else 0
    if h == 0 or not seg.holds[h].flags & KEEPING:
        unlock_shard(seg, shard)
        return ABSENT
    if entry.pins or (entry.state != SEALED and entry.state != SPILLED):
        unlock_shard(seg, shard)
        return NOT_SEALED
    change_pins(seg, h, 1)
    entry.given_to = 0                   # an abort takes no reference back
    entry.owner = seg.address
    entry.creator = seg.address
    store32(&entry.state, CREATED)
    crash_point(seg, CRASH_DROP_CLAIMED)
    abort_locked(seg, e, h, False)
    return OK
