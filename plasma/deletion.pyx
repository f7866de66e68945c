"""The end of an object: what keeps it, and what goes with it when nothing does.

    SEALED, SPILLED ──nothing keeps it, or delete──▶ DELETED ──nobody pins it──▶ without memory ──nobody holds it──▶ FREE
    PENDING, LOST   ──nothing keeps it──▶ FREE

settle() is how every step that gives something up ends. With an object go the references it contains, and with the last of
those others: a chain of objects whose deletion this client has taken on (DELETING), each in a record of its ledger, so
that its reaper goes on with them. The rules are those of lifecycle.pyx.
"""
from libc.stdint cimport uint32_t
from plasma._c.posix cimport pl_invariant, store32
from plasma.intents cimport free_intent, set_file_intent, set_intent
from plasma.layout cimport (
    CHANNEL, CRASH_DELETE_CASCADING, CRASH_DELETE_FREED, CRASH_DELETE_INTENT, DELETED, DELETING, FREE, KEPT, LOST, PENDING,
    PROMISING, REFERENCED, SEALED, SHARD_COUNT, SPILLED, UNSWEPT, Contained, Entry, Segment, contained_at, crash_point,
    shard_of_entry, shard_of_id,
)
from plasma.lru cimport lru_add
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry, give_entry, unlink_entry
from plasma.pins cimport find_hold, find_parent_hold, hold_for, hold_is_empty, keeps_nothing, remove_hold


cdef bint is_doomed(Segment* seg, uint32_t e) noexcept nogil:
    """Nothing keeps the object (its shard's lock is held). One that may be evicted only is put in the LRU list instead."""
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t h
    cdef bint kept
    if entry.pins:
        return False
    if entry.state == DELETED:
        kept = entry.parents != 0
        h = entry.holders
        while h:
            if entry.contained_count and seg.holds[h].flags & DELETING:
                return False             # whoever has taken the deletion on still reads the contained list
            kept = kept or seg.holds[h].refs or seg.holds[h].flags
            h = seg.holds[h].next_of_entry
        return entry.block != 0 or entry.file != 0 or not kept
    if entry.refs or entry.flags & KEPT:
        return False
    if entry.state == SEALED:
        if entry.flags & (REFERENCED | CHANNEL):
            return True
        lru_add(seg, e)
        return False
    if entry.state == SPILLED:
        return True
    if (entry.state != PENDING and entry.state != LOST) or entry.parents:
        return False
    h = entry.holders
    while h and keeps_nothing(&seg.holds[h]):
        h = seg.holds[h].next_of_entry
    return h == 0


cdef void shed(Segment* seg, uint32_t e) noexcept nogil:
    """What doesn't keep a doomed entry: a promise, and threads that slept until the seal and have not looked yet. They'll
    find it gone."""
    cdef uint32_t h = seg.entries[e].holders, following
    while h:
        following = seg.holds[h].next_of_entry
        if seg.holds[h].pins == 0 and seg.holds[h].refs == 0 and not seg.holds[h].flags & ~<uint32_t>PROMISING:
            remove_hold(seg, h)
        h = following


cdef void free_locked(Segment* seg, uint32_t e) noexcept nogil:
    """Takes the memory, and the entry if nobody holds it, from a doomed object that contains nothing (any more).
    Lock held; afterwards the block is in the intent and release_intent() must follow the unlock."""
    cdef Entry* entry = &seg.entries[e]
    pl_invariant(entry.pins == 0 and entry.contained_count == 0)
    if entry.block:
        set_intent(seg, e)
        crash_point(seg, CRASH_DELETE_INTENT)
    set_file_intent(seg, e)
    if entry.holders:
        shed(seg, e)
    if entry.holders == 0 and entry.parents == 0:
        unlink_entry(seg, e)
        store32(&entry.state, FREE)
        crash_point(seg, CRASH_DELETE_FREED)
        give_entry(seg, e)
    else:
        store32(&entry.block, 0)
        entry.file = 0


cdef void take_on(Segment* seg, uint32_t e, uint32_t* chain) noexcept nogil:
    """Lock held: this client will finish the deletion, or its reaper will."""
    seg.holds[hold_for(seg, e, seg.slot)].flags |= DELETING      # there is a record: one was made or given back just now
    seg.entries[e].collecting = chain[0]
    chain[0] = e


cdef void drop_contained(Segment* seg, uint32_t e, uint32_t* chain) noexcept nogil:
    """Drops what object e holds on others; those that die of it are freed, or chained when they contain more.
    No lock held. Safe to repeat: an item whose hold is gone is passed over."""
    cdef Contained* items = <Contained*>(seg.data + contained_at(&seg.entries[e]))
    cdef uint32_t i, child, h, shard
    if seg.entries[e].block == 0:
        drop_contained_on_disk(seg, e, chain)
        return
    for i in range(seg.entries[e].contained_count):
        shard = shard_of_id(items[i].id_hi, items[i].id_lo)
        lock_shard(seg, shard)
        child = find_entry(seg, items[i].id_hi, items[i].id_lo)
        if child == 0:
            unlock_shard(seg, shard)
            continue
        h = items[i].hold
        if (h == 0 or h >> seg.hold_shift != shard or seg.holds[h].entry != child
                or seg.holds[h].slot != 0 or seg.holds[h].parent != e):
            h = find_parent_hold(seg, child, e)
        if h:
            drop_parent_hold(seg, child, h, chain)
        unlock_shard(seg, shard)
        free_intent(seg)


cdef void drop_contained_on_disk(Segment* seg, uint32_t e, uint32_t* chain) noexcept nogil:
    """The list went to disk with the object, or is being read from there: a look at all holds finds the same. A deletion
    reads no file, and one of a damaged object leaves nothing behind."""
    cdef uint32_t shard, i, h
    for shard in range(SHARD_COUNT):
        lock_shard(seg, shard)
        i = 1
        while i <= seg.shards[shard].hold_high:
            h = (shard << seg.hold_shift) + i
            i += 1
            if seg.holds[h].entry and seg.holds[h].slot == 0 and seg.holds[h].parent == e:
                drop_parent_hold(seg, seg.holds[h].entry, h, chain)
                unlock_shard(seg, shard)
                free_intent(seg)
                lock_shard(seg, shard)
        unlock_shard(seg, shard)


cdef void drop_parent_hold(Segment* seg, uint32_t child, uint32_t h, uint32_t* chain) noexcept nogil:
    remove_hold(seg, h)
    crash_point(seg, CRASH_DELETE_CASCADING)
    if is_doomed(seg, child):
        mark_deleted(seg, child)
        if seg.entries[child].contained_count:
            take_on(seg, child, chain)
        else:
            free_locked(seg, child)


cdef void finish(Segment* seg, uint32_t chain) noexcept nogil:
    """Deletes a chain of taken-on objects and all that dies with them. No lock held."""
    cdef uint32_t e, h, shard
    while chain:
        e = chain
        chain = seg.entries[e].collecting
        drop_contained(seg, e, &chain)
        shard = shard_of_entry(seg, e)
        lock_shard(seg, shard)
        seg.entries[e].contained_count = 0
        h = find_hold(seg, e, seg.slot)
        if h:
            seg.holds[h].flags &= ~<uint32_t>DELETING
            if hold_is_empty(&seg.holds[h]):
                remove_hold(seg, h)
        if is_doomed(seg, e):
            free_locked(seg, e)
        unlock_shard(seg, shard)
        free_intent(seg)


cdef void settle(Segment* seg, uint32_t e) noexcept nogil:
    """After holds were dropped: frees the object if nothing keeps it. Called with its shard's lock held, returns
    with it RELEASED."""
    cdef uint32_t chain = 0
    cdef uint32_t shard = shard_of_entry(seg, e)
    if not is_doomed(seg, e):
        unlock_shard(seg, shard)
        return
    if seg.entries[e].contained_count and hold_for(seg, e, seg.slot) == 0:
        # The ledger is full, and without a record nobody would go on with the deletion if we died. The next sweep does.
        seg.shards[shard].unswept = UNSWEPT
        unlock_shard(seg, shard)
        return
    mark_deleted(seg, e)
    if seg.entries[e].contained_count == 0:
        free_locked(seg, e)
        unlock_shard(seg, shard)
        free_intent(seg)
        return
    take_on(seg, e, &chain)
    unlock_shard(seg, shard)
    finish(seg, chain)
