"""All repair after a death, in one place.

A process can die at any instruction. What it leaves is found in two ways:

1. It died inside a critical section. Whoever takes that lock next is told so by the kernel (EOWNERDEAD) and, before
   going on, rebuilds what the lock guards from the truth in it: repair_shard(), repair_clients(), rebuild_allocator().
2. Its slot's liveness lock can be taken. Whoever notices (the node process, the store's server, a creator that finds no
   space) takes that lock, so that there is one reaper, and drops what the slot's ledger lists: reap_slot(). A reaper
   that dies in the middle loses the lock to the next, who finds the rest of the ledger; doing it twice does no harm.

Why the order in reap_slot() is as it is: walking the ledger takes every shard's lock, so every repair of kind 1 that
this death needs has been made before the dead client's intent is looked at; a repair clears an intent whose block an
entry owns; what is left in the intent then belongs to nobody, and is freed. At last the shards in which somebody died
are swept for objects that nobody keeps, whose dropper died between the drop and the free.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport abort, free, malloc, qsort
from plasma._c.posix cimport pl_mutex_lock, pl_mutex_repaired, pl_mutex_unlock, store32
from plasma.allocator cimport append_used, release_intent, reset
from plasma.clients cimport claim_dead, give_slot, rebuild_slots
from plasma.deletion cimport drop_contained, finish, is_doomed, settle
from plasma.disk cimport unfill_locked
from plasma.intents cimport free_intent, remove_file
from plasma.layout cimport (
    CHANNEL, CRASH_REAP_DROPPED, CRASH_REAP_DROPPING, CRASH_REAP_MARKED, CREATED, DELETED, DELETING, FILLING, FREE, IN_LRU,
    LOST, PENDING, PLACE_BITS, SEALED, SHARD_COUNT, SLOT_FREE, SLOT_REAPING, SPILLED, SWEEPING, SWEPT, UNSWEPT,
    USED_BY_CHANNEL, USED_BY_OBJECT, Entry, Segment, Shard, Slot, crash_point, shard_of_entry,
)
from plasma.lifecycle cimport abort_locked, close_channel, is_orphan, lose_locked
from plasma.mutex cimport lock_broken, lock_shard, unlock_shard
from plasma.object_table cimport rebuild_table
from plasma.pins cimport rebuild_holds, remove_hold
from plasma.waiters cimport ring_space_waiters, ring_watchers


cdef void install_repairs(Segment* seg) noexcept nogil:
    seg.repair_shard = repair_shard
    seg.repair_clients = repair_clients
    seg.rebuild_allocator = rebuild_allocator


# ---- 1. a death inside a critical section ----------------------------------------------------------------------------


cdef void repair_shard(Segment* seg, uint32_t shard) noexcept nogil:
    """Buckets, free lists, holds, totals and LRU of one shard, from its entries' states and its hold records."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t base = shard << seg.entry_shift
    cdef uint32_t i, e, b
    cdef Entry* entry
    s.repairs += 1
    s.unswept = UNSWEPT
    seg.header.repairs_ever += 1
    rebuild_table(seg, shard)
    rebuild_holds(seg, shard)
    s.lru_newest = 0
    s.lru_oldest = 0
    for i in range(1, s.entry_high + 1):
        entry = &seg.entries[base + i]
        entry.flags &= ~<uint32_t>IN_LRU
        if entry.state == PENDING:
            entry.block = 0              # a create that didn't get to its commit: the block is still an intent
        elif entry.state == SPILLED and not entry.flags & FILLING:
            entry.block = 0              # a spill that got to its commit and no further: as above
        elif entry.state == SEALED:
            entry.flags &= ~<uint32_t>FILLING
    for i in range(1, s.entry_high + 1):
        # is_doomed() lists what may be evicted; their order starts anew, by age in the table
        if seg.entries[base + i].state == SEALED:
            is_doomed(seg, base + i)
        if seg.entries[base + i].state == SEALED or seg.entries[base + i].state == LOST:
            ring_watchers(seg, base + i, True)           # the dead may have got to the state and not to the bells
    for i in range(1, seg.header.slot_high + 1):
        if seg.slots[i].files_next < seg.slots[i].files_end:
            claim_committed_files(seg, shard, &seg.slots[i])
        b = seg.slots[i].intent
        if b:
            e = seg.blocks[b].entry
            # Only inside this lock is a committed block still (or already) an intent, so it is the dead owner's.
            if e and shard_of_entry(seg, e) == shard and seg.entries[e].state != FREE and seg.entries[e].block == b:
                seg.slots[i].intent = 0


cdef void claim_committed_files(Segment* seg, uint32_t shard, Slot* slot) noexcept nogil:
    """Files go into entries in the order of their numbers. What this shard's entries have is no longer the spiller's."""
    cdef uint32_t base = shard << seg.entry_shift, i
    cdef uint64_t number
    for i in range(1, seg.shards[shard].entry_high + 1):
        number = seg.entries[base + i].file >> PLACE_BITS
        if seg.entries[base + i].state != FREE and slot.files_next <= number < slot.files_end:
            slot.files_next = number + 1


cdef void repair_clients(Segment* seg) noexcept nogil:
    seg.header.repairs_ever += 1
    rebuild_slots(seg)


cdef struct Extent:
    uint64_t offset
    uint64_t size
    uint32_t entry                   # 0: an intent, of `slot`
    uint32_t slot


cdef int by_offset(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const Extent*>a).offset, y = (<const Extent*>b).offset
    return -1 if x < y else (1 if x > y else 0)


cdef void rebuild_allocator(Segment* seg) noexcept nogil:
    """The free map from the table. Called without locks; takes all of them, and does nothing if another was first."""
    cdef uint32_t i, j, e, b, count = 0
    cdef uint64_t room
    cdef Extent* extents
    cdef int rc
    for i in range(SHARD_COUNT):
        lock_shard(seg, i)
    rc = pl_mutex_lock(seg.allocator.mutex)
    if rc < 0:
        lock_broken()
    if rc > 0:
        seg.allocator.dirty = 1
        pl_mutex_repaired(seg.allocator.mutex)
    if seg.allocator.dirty:
        room = seg.header.slot_high + 1
        for i in range(SHARD_COUNT):
            room += seg.shards[i].entry_high
        extents = <Extent*>malloc(room * sizeof(Extent))
        if extents == NULL:
            abort()
        for i in range(SHARD_COUNT):
            for j in range(1, seg.shards[i].entry_high + 1):
                e = (i << seg.entry_shift) + j
                if seg.entries[e].state != FREE and seg.entries[e].block:
                    extents[count] = Extent(seg.entries[e].offset, seg.entries[e].allocated_bytes, e, 0)
                    count += 1
        for i in range(1, seg.header.slot_high + 1):
            if seg.slots[i].intent:
                extents[count] = Extent(seg.slots[i].intent_offset, seg.slots[i].intent_bytes, 0, i)
                count += 1
        qsort(extents, count, sizeof(Extent), by_offset)
        reset(seg)
        for i in range(count):
            e = extents[i].entry
            b = append_used(seg, extents[i].offset, extents[i].size, e,
                            USED_BY_CHANNEL if e and seg.entries[e].flags & CHANNEL else USED_BY_OBJECT)
            if extents[i].entry:
                seg.entries[extents[i].entry].block = b
            else:
                seg.slots[extents[i].slot].intent = b
        free(extents)
        seg.allocator.rebuilds += 1
        store32(&seg.allocator.dirty, 0)
    pl_mutex_unlock(seg.allocator.mutex)
    for i in range(SHARD_COUNT):
        unlock_shard(seg, i)


# ---- 2. a client that is gone ----------------------------------------------------------------------------------------


cdef void sweep(Segment* seg, uint32_t shard) noexcept nogil:
    """Frees what nobody keeps, and gives up what nobody alive promises, in a shard in which somebody died."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t base = shard << seg.entry_shift
    cdef uint32_t i = 1
    lock_shard(seg, shard)
    s.unswept = SWEEPING
    while i <= s.entry_high:
        if is_orphan(seg, base + i):
            lose_locked(seg, base + i)
        if seg.entries[base + i].state != FREE and is_doomed(seg, base + i):
            settle(seg, base + i)
            lock_shard(seg, shard)
        i += 1
    if s.unswept == SWEEPING:            # else somebody died here meanwhile, or something had to be left
        s.unswept = SWEPT
    unlock_shard(seg, shard)


cdef void drop_hold_of_dead(Segment* seg, uint32_t h, uint64_t address) noexcept nogil:
    """Drops one record of a dead client's ledger, with all that follows from it. The lock of the hold's shard is held
    on entry and RELEASED on return. The record goes last: should the reaper die, the next one finds it again."""
    cdef uint32_t e = seg.holds[h].entry
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    cdef uint32_t chain = 0
    if entry.state == CREATED and entry.creator == address:
        abort_locked(seg, e, h, True)
        return
    if entry.flags & FILLING and entry.creator == address:
        unfill_locked(seg, e)
        unlock_shard(seg, shard)         # the hold keeps the entry meanwhile
        free_intent(seg)
        lock_shard(seg, shard)
    if (entry.state == DELETED or entry.state == LOST) and seg.holds[h].flags & DELETING and entry.contained_count:
        unlock_shard(seg, shard)
        drop_contained(seg, e, &chain)
        finish(seg, chain)
        lock_shard(seg, shard)
        entry.contained_count = 0
    if entry.flags & CHANNEL:
        close_channel(seg, e, address)
    remove_hold(seg, h)
    if is_orphan(seg, e):                # should we die here: the repair of the shard asks for a sweep, which asks the same
        lose_locked(seg, e)
    settle(seg, e)


cdef void clear_slot(Segment* seg, uint32_t slot) noexcept nogil:
    """Drops all that a leaving or dead client holds. Its liveness lock is ours."""
    cdef uint64_t address = seg.slots[slot].address
    cdef uint32_t shard, h
    store32(&seg.slots[slot].state, SLOT_REAPING)        # SYNC: reap/add
    crash_point(seg, CRASH_REAP_MARKED)
    for shard in range(SHARD_COUNT):
        while True:
            lock_shard(seg, shard)
            h = seg.slots[slot].holds[shard]
            if h == 0:
                h = seg.slots[slot].unneeded[shard]
            if h == 0 and shard == 0:
                h = seg.slots[slot].channels
            if h == 0:
                unlock_shard(seg, shard)
                break
            crash_point(seg, CRASH_REAP_DROPPING)
            drop_hold_of_dead(seg, h, address)
    crash_point(seg, CRASH_REAP_DROPPED)
    if slot != seg.slot:
        release_intent(seg, slot)
    while seg.slots[slot].files_next < seg.slots[slot].files_end:
        remove_file(seg, seg.slots[slot].files_next)
        seg.slots[slot].files_next += 1
    if seg.slots[slot].file_intent:
        remove_file(seg, seg.slots[slot].file_intent)
        seg.slots[slot].file_intent = 0
    for shard in range(SHARD_COUNT):
        if seg.shards[shard].unswept:
            sweep(seg, shard)
    if seg.slots[slot].space_wanted:
        seg.slots[slot].space_wanted = 0
    ring_space_waiters(seg)


cdef bint reap_slot(Segment* seg, uint32_t slot) noexcept nogil:
    """Reaps one slot if its client is dead. False: it lives, or there is none, or somebody else is at it."""
    if slot == seg.slot or slot == 0 or slot > seg.header.slot_high:
        return False
    if not claim_dead(seg, slot):
        return False
    clear_slot(seg, slot)
    seg.header.reaped_ever += 1
    give_slot(seg, slot)
    return True


cdef uint32_t reap_all(Segment* seg) noexcept nogil:
    cdef uint32_t i, n = 0
    for i in range(1, seg.header.slot_high + 1):
        if seg.slots[i].state != SLOT_FREE and reap_slot(seg, i):
            n += 1
    return n
