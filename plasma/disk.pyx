"""The disk's part of an object's life: SEALED ⇄ SPILLED, and LOST when the file can't be read.

    SEALED ──commit_spill──▶ SPILLED ──claim──▶ SPILLED, FILLING ──commit_restore──▶ SEALED
                                ▲                    │    │
                                └──give_up_restore, ─┘    └──lose_unreadable──▶ LOST
                                   the filler's death

Who needs room spills, who reads restores; nobody waits for another process to do it. A victim is pinned while its bytes are
written, so that they can't move, and goes only if nobody else has pinned it meanwhile. Who restores claims the object
(FILLING) with a block, so that of many readers one reads and the others wait for the bell.

A file is written once and never changed, and stays when its object is restored: to spill it again costs nothing. It goes
with the object. Its number is in exactly one place: in the entry, or in the slot of whoever is about to put it there
(`files_next` to `files_end`) or has taken it out (`file_intent`). One that no number names is found by nobody, hence
a number is in the slot before there is a file.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from plasma._c.posix cimport add64, pl_now_coarse_ns, store32
from plasma.allocator cimport allocate
from plasma.deletion cimport drop_contained, finish, settle
from plasma.intents cimport free_intent, set_file_intent, set_intent
from plasma.layout cimport (
    CHANNEL, CRASH_RESTORE_ALLOCATED, CRASH_RESTORE_CLAIMED, CRASH_RESTORE_COMMITTED, CRASH_RESTORE_DROPPED,
    CRASH_RESTORE_LOST, CRASH_SPILL_COMMITTED, CRASH_SPILL_FREED, CRASH_SPILL_INTENT, CRASH_SPILL_LOCKED, DELETED,
    DELETING, EXPOSED, FILLING, KEPT, LOST, PLACE_BITS, RESIDENT, SEALED, SHARD_COUNT, SPILLED, UNREADABLE, USED_BY_OBJECT,
    Contained, Entry, Segment, crash_point, round_up, shard_of_entry, shard_of_id,
)
from plasma.lifecycle cimport ABSENT, BUSY, GONE, LEDGER_FULL, NO_SPACE, OK, ON_DISK, UNREAD, client_is, unpin
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry
from plasma.pins cimport change_pins, hold_for, hold_is_empty, remove_hold
from plasma.waiters cimport ring_watchers


cdef inline bint is_wanted(const Entry* entry) noexcept nogil:
    """Somebody is without it if it goes: it can't be evicted instead."""
    return (entry.refs > 0 or entry.flags & KEPT) and not entry.flags & CHANNEL


cdef inline bint is_spillable(const Entry* entry) noexcept nogil:
    return entry.state == SEALED and entry.pins == 0 and is_wanted(entry) and not entry.flags & RESIDENT


cdef uint64_t payload_bytes(Segment* seg, uint32_t e) noexcept nogil:
    """What goes to disk: the data, and the list of contained references behind them."""
    cdef Entry* entry = &seg.entries[e]
    if entry.contained_count == 0:
        return entry.size_bytes
    return round_up(entry.size_bytes, 16) + entry.contained_count * sizeof(Contained)


# ---- to the disk -----------------------------------------------------------------------------------------------------


cdef int by_age(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const Victim*>a).used_at_ns, y = (<const Victim*>b).used_at_ns
    return -1 if x < y else (1 if x > y else 0)


cdef uint32_t choose_victims(Segment* seg, uint64_t need, Victim** victims) noexcept nogil:
    """The least recently used spillable objects worth `need` bytes, or all there are; the caller frees the array.

    A pass over the table, without its locks: what is stale is noticed when it is pinned. No list is kept of these, as it
    would cost every get and release; a pass is paid for by the megabytes that go to disk after it.
    """
    cdef uint32_t shard, i, e, count = 0, taken = 0
    cdef uint64_t room = 0, bytes = 0
    cdef Victim* found
    victims[0] = NULL
    for shard in range(SHARD_COUNT):
        room += seg.shards[shard].entry_high
    found = <Victim*>malloc((room + 1) * sizeof(Victim))
    if found == NULL:
        return 0
    for shard in range(SHARD_COUNT):
        for i in range(1, seg.shards[shard].entry_high + 1):
            e = (shard << seg.entry_shift) + i
            if count < room and is_spillable(&seg.entries[e]):
                found[count] = Victim(seg.entries[e].used_at_ns, seg.entries[e].allocated_bytes, e)
                count += 1
    qsort(found, count, sizeof(Victim), by_age)
    while taken < count and bytes < need:
        bytes += found[taken].bytes
        taken += 1
    victims[0] = found
    return taken


cdef uint32_t pin_victim(Segment* seg, uint32_t e) noexcept nogil:
    """The hold of a pin that keeps the object's bytes where they are while they are written. 0: it may no longer go."""
    cdef uint32_t shard = shard_of_entry(seg, e), h = 0
    lock_shard(seg, shard)
    if is_spillable(&seg.entries[e]):
        h = hold_for(seg, e, seg.slot)
        if h:
            change_pins(seg, h, 1)
    unlock_shard(seg, shard)
    return h


cdef bint commit_spill(Segment* seg, uint32_t e, uint32_t h, uint64_t file) noexcept nogil:
    """The object is in its file; its memory goes. `file` 0: in the one that it has had from before.

    False: somebody has pinned it meanwhile, or nobody wants it any more; it stays, and a new file is the caller's to remove.
    """
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    lock_shard(seg, shard)
    crash_point(seg, CRASH_SPILL_LOCKED)
    if entry.state != SEALED or entry.pins != 1 or not is_wanted(entry):
        change_pins(seg, h, -1)
        if hold_is_empty(&seg.holds[h]):
            remove_hold(seg, h)
        settle(seg, e)
        return False
    if file:
        entry.file = file
    entry.flags &= ~<uint32_t>EXPOSED
    set_intent(seg, e)
    crash_point(seg, CRASH_SPILL_INTENT)
    store32(&entry.state, SPILLED)
    crash_point(seg, CRASH_SPILL_COMMITTED)
    store32(&entry.block, 0)
    if file:
        seg.slots[seg.slot].files_next = (file >> PLACE_BITS) + 1
    crash_point(seg, CRASH_SPILL_FREED)
    change_pins(seg, h, -1)
    if hold_is_empty(&seg.holds[h]):
        remove_hold(seg, h)
    add64(&seg.header.spilled_ever, 1)
    unlock_shard(seg, shard)
    free_intent(seg)
    return True


# ---- and back --------------------------------------------------------------------------------------------------------


cdef int status_of(Segment* seg, uint32_t e) noexcept nogil:
    """ON_DISK: it is there for the taking. BUSY: another client is at it. OK: it is in memory."""
    cdef Entry* entry = &seg.entries[e]
    if e == 0 or entry.state == DELETED:
        return ABSENT
    if entry.state == LOST:
        return UNREAD if entry.flags & UNREADABLE else GONE
    if entry.state != SPILLED:
        return OK
    return BUSY if entry.flags & FILLING and client_is(seg, entry.creator) else ON_DISK


cdef int claim(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* out_entry, uint32_t* out_hold) noexcept nogil:
    """ON_DISK: the caller has a block in the object's entry, to be filled from the file, and a pin. Another status: why not.

    OK says that it has come back to memory meanwhile.
    """
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef uint64_t bytes
    cdef bint fresh = False
    cdef int status
    cdef Entry* entry
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    status = status_of(seg, e)
    bytes = seg.entries[e].allocated_bytes if e else 0
    unlock_shard(seg, shard)
    if status != ON_DISK:
        return status
    if not allocate(seg, bytes, 64, USED_BY_OBJECT, &fresh):
        return NO_SPACE
    crash_point(seg, CRASH_RESTORE_ALLOCATED)
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    entry = &seg.entries[e]
    status = status_of(seg, e)
    if status == ON_DISK and entry.flags & FILLING:
        status = BUSY                    # of a dead client: its reaper frees what it had begun
    elif status == ON_DISK and entry.allocated_bytes != bytes:
        status = OK                      # another object of this id: look again
    h = hold_for(seg, e, seg.slot) if status == ON_DISK else 0
    if h == 0:
        unlock_shard(seg, shard)
        free_intent(seg)
        return LEDGER_FULL if status == ON_DISK else status
    change_pins(seg, h, 1)
    entry.creator = seg.address
    entry.offset = seg.slots[seg.slot].intent_offset
    entry.allocated_bytes = seg.slots[seg.slot].intent_bytes
    entry.flags |= FILLING
    seg.blocks[seg.slots[seg.slot].intent].entry = e
    store32(&entry.block, seg.slots[seg.slot].intent)
    crash_point(seg, CRASH_RESTORE_CLAIMED)
    seg.slots[seg.slot].intent = 0
    unlock_shard(seg, shard)
    out_entry[0] = e
    out_hold[0] = h
    return ON_DISK


cdef int commit_restore(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    """The block is filled: everybody may read, and the caller's pin is a reader's. ABSENT: it was deleted meanwhile."""
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    lock_shard(seg, shard)
    if entry.state != SPILLED:
        unlock_shard(seg, shard)
        give_up_restore(seg, e, h)
        return ABSENT
    entry.used_at_ns = pl_now_coarse_ns()
    store32(&entry.state, SEALED)
    crash_point(seg, CRASH_RESTORE_COMMITTED)
    entry.flags &= ~<uint32_t>FILLING
    ring_watchers(seg, e, False)
    add64(&seg.header.restored_ever, 1)
    unlock_shard(seg, shard)
    return OK


cdef void unfill_locked(Segment* seg, uint32_t e) noexcept nogil:
    """Nobody fills the object's block from its file any more. Lock held; free_intent() must follow the unlock."""
    if seg.entries[e].block:
        set_intent(seg, e)
        store32(&seg.entries[e].block, 0)
    seg.entries[e].flags &= ~<uint32_t>FILLING
    ring_watchers(seg, e, True)


cdef void give_up_restore(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    """The file couldn't be read now; the object stays there."""
    cdef uint32_t shard = shard_of_entry(seg, e)
    lock_shard(seg, shard)
    unfill_locked(seg, e)
    unlock_shard(seg, shard)
    free_intent(seg)
    unpin(seg, e, h)


cdef void lose_unreadable(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    """The file is missing or damaged: so is the object, with what it held on others. Who waits for it is told."""
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    cdef uint32_t chain = 0
    cdef bint lost
    lock_shard(seg, shard)
    lost = entry.state == SPILLED        # else it was deleted meanwhile
    unfill_locked(seg, e)
    if lost:
        set_file_intent(seg, e)
        entry.file = 0
        entry.flags |= UNREADABLE
        if entry.contained_count:
            seg.holds[h].flags |= DELETING
        store32(&entry.state, LOST)
        crash_point(seg, CRASH_RESTORE_LOST)
        ring_watchers(seg, e, False)
    unlock_shard(seg, shard)
    free_intent(seg)
    if lost and entry.contained_count:
        drop_contained(seg, e, &chain)
        finish(seg, chain)
        crash_point(seg, CRASH_RESTORE_DROPPED)
        lock_shard(seg, shard)
        entry.contained_count = 0
        seg.holds[h].flags &= ~<uint32_t>DELETING
        unlock_shard(seg, shard)
    unpin(seg, e, h)


cdef int watch_restore(Segment* seg, uint64_t hi, uint64_t lo, uint64_t* filler) noexcept nogil:
    """BUSY: a thread of this client is marked as waiting, as by wait_for(), until `filler` is done."""
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    status = ON_DISK if e and seg.entries[e].flags & FILLING else OK
    if status == ON_DISK and seg.entries[e].state == SPILLED:
        h = hold_for(seg, e, seg.slot)
        if h:
            seg.holds[h].waits += 1
            filler[0] = seg.entries[e].creator
            status = BUSY
    unlock_shard(seg, shard)
    return status


cdef int find_file(Segment* seg, uint64_t hi, uint64_t lo, uint64_t* file, uint64_t* size) noexcept nogil:
    """Where a spilled object is on disk, for one who reads it there: there is no room to restore it."""
    cdef uint32_t shard = shard_of_id(hi, lo), e
    cdef int status
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    status = status_of(seg, e)
    if status == ON_DISK or status == BUSY:
        file[0] = seg.entries[e].file
        size[0] = seg.entries[e].size_bytes
        status = ON_DISK
    unlock_shard(seg, shard)
    return status
