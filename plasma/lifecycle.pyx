"""The life of an object: its states, how it is made, and who holds it.

    FREE ──declare/watch──▶ PENDING ──create──▶ CREATED ──seal──▶ SEALED ──delete, evict, last reference──▶ DELETED ──▶ FREE
      │                        │  ▲                │
      └───────create───────────┼──┼──▶ CREATED     └─abort─▶ PENDING (somebody still holds it) or FREE
                               │  └──────────────────────────┘
                               └──abandon, its promiser died──▶ LOST ──last hold──▶ FREE

    DELETED or LOST ──renew──▶ PENDING: somebody who still holds it has the object made once more
    SEALED ──drop_copy──▶ CREATED ──abort──▶ PENDING: an agent that keeps it gives up its data (keeping.pyx)

    PENDING  known, not produced here yet. Owns no memory. `owner` promised it (0: somebody merely waits for it).
    CREATED  `creator` writes it; nobody else can see its data. It owns its block.
    SEALED   immutable and visible. Without pins and references it is evicted (least recently used first) when
             memory is needed; one that ever had a reference is freed with its last one.
    SPILLED  referenced, and its bytes are in a file. Owns no memory, until somebody fills a block from the file (FILLING).
    LOST     its promiser died or gave up, or its file was unreadable: everybody who waits for it is told.
    DELETED  out of reach for readers; its memory and its file go as soon as nobody pins it, its entry when nobody holds it.

An entry's state is changed here and in four files more, under the same rules: deletion.pyx has the end, when nothing keeps
the object; promises.pyx what is announced and not made yet; disk.pyx the ways to the disk and back, SEALED ⇄ SPILLED and
SPILLED → LOST; keeping.pyx what agents do. What ends by its client's death is dropped by recovery.pyx.

How a death between two lines is survived. Every step below happens under the lock of the entry's shard, is committed
by one store (the state, or a hold's `entry`), and leaves a trace that recovery.pyx can read:

    the block between allocator and table      in the client's `intent`
    an object half made                        CREATED, and its creator's hold is in the dead client's ledger
    references half given to an object         in its contained list first, then as a hold: dropping looks for both
    a deletion that has others to delete       a hold flagged DELETING: whoever reaps the client goes on with it
    an entry dropped by all, not yet freed     found by the sweep of a shard whose lock's owner died
    a file that is in no entry                 in the client's `file_intent`, or its range of `files`
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from plasma._c.posix cimport add32, pl_now_coarse_ns, store32
from plasma.allocator cimport allocate
from plasma.deletion cimport drop_contained, finish, free_locked, is_doomed, mark_deleted, settle
from plasma.layout cimport (
    ALIGNMENT, CHANNEL, CRASH_CREATE_COMMITTED, CRASH_CREATE_CONTAINED, CRASH_CREATE_CONTAINING, CRASH_CREATE_FILLED,
    CRASH_CREATE_HELD, CRASH_CREATE_LINKED, CRASH_DELETE_INTENT, CRASH_GET_HELD, CRASH_GET_LOCKED, CRASH_GET_PINNED,
    CRASH_RELEASE_LOCKED, CRASH_RELEASE_UNHELD, CRASH_RELEASE_UNPINNED, CRASH_SEAL_COMMITTED, CRASH_SEAL_LOCKED,
    CRASH_SEAL_RANG, CREATED, DELETED, EXPOSED, FREE, FREED, GIVEN_UP, KEPT, LOST, PAGE, PENDING, PROMISING, REFERENCED,
    SEALED, SLOT_ACTIVE, SPILLED, UNREADABLE, USED_BY_CHANNEL, USED_BY_OBJECT, Contained, Entry, RingHeader, Segment,
    contained_at, crash_point, round_up, shard_of_entry, shard_of_id,
)
from plasma.doorbell cimport ring_all
from plasma.intents cimport free_intent, set_file_intent, set_intent
from plasma.lru cimport lru_remove
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.object_table cimport find_entry, give_entry, link_entry, take_entry
from plasma.pins cimport (
    add_hold, change_pins, change_refs, find_hold, hold_for, hold_is_empty, keeps_nothing, leave_kept, remove_hold,
)
from plasma.waiters cimport ring_watchers

# The diagram above as a table, for the documents and for the tests that walk it.
TRANSITIONS = {
    "free": ("pending", "created"),
    "pending": ("created", "lost", "free"),
    "created": ("sealed", "pending"),
    "sealed": ("spilled", "created", "deleted"),
    "spilled": ("sealed", "created", "lost", "deleted"),
    "lost": ("free", "pending"),
    "deleted": ("free", "pending"),
}


# ---- the beginning ---------------------------------------------------------------------------------------------------


cdef uint32_t new_entry(Segment* seg, uint64_t hi, uint64_t lo, uint32_t shard) noexcept nogil:
    """A zeroed entry with an id, still FREE. Lock held. 0: the table is full."""
    cdef uint32_t e = take_entry(seg, shard)
    cdef Entry* entry = &seg.entries[e]
    if e == 0:
        return 0
    entry.id_hi = hi
    entry.id_lo = lo
    entry.flags = 0
    entry.block = 0
    entry.offset = 0
    entry.size_bytes = 0
    entry.allocated_bytes = 0
    entry.owner = 0
    entry.creator = 0
    entry.given_to = 0
    entry.contained_count = 0
    entry.pins = 0
    entry.refs = 0
    entry.holders = 0
    entry.parents = 0
    entry.file = 0
    return e


cdef bint client_is(Segment* seg, uint64_t address) noexcept nogil:
    """The address names a client that lives, or is at least not being reaped yet: then its reaper, which marks the
    slot before it locks this shard, will see what we add under that lock (SYNC: reap/add)."""
    cdef uint32_t slot = <uint32_t>(address & 0xFFFF)
    return (0 < slot < seg.header.slots_max and seg.slots[slot].state == SLOT_ACTIVE
            and seg.slots[slot].address == address)


cdef bint is_orphan(Segment* seg, uint32_t e) noexcept nogil:
    """Somebody promised the object and is gone: it will never come. Lock held."""
    cdef Entry* entry = &seg.entries[e]
    return entry.state == PENDING and entry.owner != 0 and not client_is(seg, entry.owner)


cdef int create(Segment* seg, uint64_t hi, uint64_t lo, uint64_t size, uint32_t flags, uint64_t owner,
                uint32_t contained, uint32_t* out_entry, uint32_t* out_hold, bint* fresh) noexcept nogil:
    """An object this client will write: CREATED, pinned once, with a reference for `owner` (0: for nobody).

    The reference is the owner's only one: an owner that had declared the object already keeps just that.
    """
    cdef uint64_t unit = PAGE if flags & EXPOSED else ALIGNMENT
    cdef uint64_t bytes = round_up(size, 16) + contained * sizeof(Contained)
    cdef uint32_t shard = 0 if flags & CHANNEL else shard_of_id(hi, lo)
    cdef uint32_t e, h, owner_hold
    cdef Entry* entry
    cdef bint is_new = False
    bytes = round_up(bytes if bytes else 1, unit)
    if bytes < size or not allocate(seg, bytes, unit, USED_BY_CHANNEL if flags & CHANNEL else USED_BY_OBJECT, fresh):
        return NO_SPACE
    lock_shard(seg, shard)
    e = 0 if flags & CHANNEL else find_entry(seg, hi, lo)
    if e and seg.entries[e].state != PENDING:
        unlock_shard(seg, shard)
        free_intent(seg)
        return EXISTS
    if owner and not client_is(seg, owner):
        unlock_shard(seg, shard)
        free_intent(seg)
        return OWNER_GONE
    if e == 0:
        is_new = True
        e = new_entry(seg, hi, lo, shard)
        if e == 0:
            unlock_shard(seg, shard)
            free_intent(seg)
            return TABLE_FULL
        seg.entries[e].flags = flags     # before the hold, whose list depends on it
    entry = &seg.entries[e]
    crash_point(seg, CRASH_CREATE_FILLED)
    h = hold_for(seg, e, seg.slot)
    owner_hold = h
    if h and owner and (owner & 0xFFFF) != seg.slot:
        owner_hold = hold_for(seg, e, <uint32_t>(owner & 0xFFFF))
    if h == 0 or owner_hold == 0:
        if h and hold_is_empty(&seg.holds[h]):
            remove_hold(seg, h)
        if is_new:
            give_entry(seg, e)
        unlock_shard(seg, shard)
        free_intent(seg)
        return LEDGER_FULL
    change_pins(seg, h, 1)
    entry.given_to = 0
    if owner:
        flags |= REFERENCED
        if seg.holds[owner_hold].refs == 0:
            change_refs(seg, owner_hold, 1)
            entry.given_to = owner
    crash_point(seg, CRASH_CREATE_HELD)
    entry.flags |= flags
    entry.offset = seg.slots[seg.slot].intent_offset
    entry.allocated_bytes = seg.slots[seg.slot].intent_bytes
    entry.size_bytes = size
    entry.creator = seg.address
    entry.contained_count = 0
    entry.block = seg.slots[seg.slot].intent
    seg.blocks[entry.block].entry = e
    store32(&entry.state, CREATED)
    crash_point(seg, CRASH_CREATE_COMMITTED)
    if is_new:
        link_entry(seg, e)
    seg.slots[seg.slot].intent = 0
    crash_point(seg, CRASH_CREATE_LINKED)
    unlock_shard(seg, shard)
    out_entry[0] = e
    out_hold[0] = h
    return OK


cdef int contain(Segment* seg, uint32_t e, uint64_t hi, uint64_t lo) noexcept nogil:
    """The object being created holds a reference on another, which must be known to the table. Once for each."""
    cdef Entry* entry = &seg.entries[e]
    cdef Contained* item = <Contained*>(seg.data + contained_at(entry)) + entry.contained_count
    cdef uint32_t shard = shard_of_id(hi, lo)
    cdef uint32_t child, h
    item.id_hi = hi
    item.id_lo = lo
    item.hold = 0
    store32(&entry.contained_count, entry.contained_count + 1)
    crash_point(seg, CRASH_CREATE_CONTAINING)
    lock_shard(seg, shard)
    child = find_entry(seg, hi, lo)
    if child == 0 or seg.entries[child].state == DELETED:
        unlock_shard(seg, shard)
        return CONTAINED_ABSENT
    h = add_hold(seg, child, 0, e)
    if h == 0:
        unlock_shard(seg, shard)
        return LEDGER_FULL
    change_refs(seg, h, 1)
    lru_remove(seg, child)
    seg.entries[child].flags |= REFERENCED
    item.hold = h
    crash_point(seg, CRASH_CREATE_CONTAINED)
    unlock_shard(seg, shard)
    return OK


cdef int seal(Segment* seg, uint32_t e, uint32_t h, bint keep_pin) noexcept nogil:
    """Immutable and visible from here on; everybody who watches it is rung."""
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    lock_shard(seg, shard)
    crash_point(seg, CRASH_SEAL_LOCKED)
    if entry.creator != seg.address or entry.state != CREATED:
        unlock_shard(seg, shard)
        return SEALED_ALREADY if entry.state == SEALED else NOT_CREATOR
    entry.used_at_ns = pl_now_coarse_ns()
    store32(&entry.state, SEALED)
    crash_point(seg, CRASH_SEAL_COMMITTED)
    ring_watchers(seg, e, False)
    crash_point(seg, CRASH_SEAL_RANG)
    if keep_pin:
        unlock_shard(seg, shard)
        return OK
    change_pins(seg, h, -1)
    if hold_is_empty(&seg.holds[h]):
        remove_hold(seg, h)
    settle(seg, e)
    return OK


cdef void abort_locked(Segment* seg, uint32_t e, uint32_t h, bint creator_died) noexcept nogil:
    """Undoes a create, by its creator or the creator's reaper. Lock held; RELEASED on return. The entry goes back to
    PENDING, and from there to FREE unless somebody still holds it: of what the creator itself holds, an abort takes
    the pin and the reference that create made, its death takes all."""
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    cdef uint32_t chain = 0, given
    if entry.contained_count:
        # Out of the lock and back: meanwhile the creator's hold keeps the entry, and should we die too, the creator's
        # reaper comes here again.
        unlock_shard(seg, shard)
        drop_contained(seg, e, &chain)
        finish(seg, chain)
        lock_shard(seg, shard)
        entry.contained_count = 0
    if entry.block:
        set_intent(seg, e)
        crash_point(seg, CRASH_DELETE_INTENT)
        store32(&entry.block, 0)
    if client_is(seg, entry.given_to):
        given = find_hold(seg, e, <uint32_t>(entry.given_to & 0xFFFF))
        if given and seg.holds[given].refs:
            change_refs(seg, given, -1)
            if hold_is_empty(&seg.holds[given]):
                remove_hold(seg, given)
    entry.given_to = 0
    set_file_intent(seg, e)              # a copy that was dropped may have one
    entry.file = 0
    entry.flags &= ~<uint32_t>EXPOSED
    if entry.refs == 0 and not entry.flags & KEPT:
        entry.flags &= ~<uint32_t>REFERENCED     # the next to create it starts anew
    store32(&entry.state, PENDING)
    entry.creator = 0
    if creator_died:
        remove_hold(seg, h)
    else:
        change_pins(seg, h, -1)
        let_go(seg, e, h)
    if is_orphan(seg, e):
        lose_locked(seg, e)
    if is_doomed(seg, e):                # decided before the lock is let go: a death afterwards leaves nothing but the intent
        free_locked(seg, e)
    unlock_shard(seg, shard)
    free_intent(seg)


cdef int abort(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    cdef uint32_t shard = shard_of_entry(seg, e)
    lock_shard(seg, shard)
    if seg.entries[e].state != CREATED or seg.entries[e].creator != seg.address:
        unlock_shard(seg, shard)
        return NOT_CREATOR
    abort_locked(seg, e, h, False)
    return OK


cdef int record(Segment* seg, uint64_t hi, uint64_t lo, uint32_t slot, uint32_t* entry, uint32_t* hold) noexcept nogil:
    """A client's record on an object, for the caller to fill in; what is unknown (entry 0) becomes PENDING, promised by
    nobody. Lock held. Should we die before it is filled in: the repair drops the record, and the sweep an entry without."""
    cdef uint32_t shard = shard_of_id(hi, lo)
    cdef bint is_new = entry[0] == 0
    if is_new:
        entry[0] = new_entry(seg, hi, lo, shard)
        if entry[0] == 0:
            return TABLE_FULL
    hold[0] = hold_for(seg, entry[0], slot)
    if hold[0] == 0:
        if is_new:
            give_entry(seg, entry[0])
        return LEDGER_FULL
    if is_new:
        store32(&seg.entries[entry[0]].state, PENDING)
        link_entry(seg, entry[0])
    return OK


cdef void let_go(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    """A record of this client, of which something was given up just now, goes when nothing is left; if the client
    promised the object, the promise stays. (Should we die before it is marked: the sweep asks whose promise it was.)"""
    if not keeps_nothing(&seg.holds[h]):
        return
    seg.holds[h].flags = 0
    if (seg.entries[e].state == PENDING or seg.entries[e].state == CREATED) and seg.entries[e].owner == seg.address:
        if seg.entries[e].flags & KEPT:
            leave_kept(seg, h)
        seg.holds[h].flags |= PROMISING
    else:
        remove_hold(seg, h)


cdef void lose_locked(Segment* seg, uint32_t e) noexcept nogil:
    store32(&seg.entries[e].state, LOST)
    ring_watchers(seg, e, False)


# ---- holding ---------------------------------------------------------------------------------------------------------


cdef int pin(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* out_entry, uint32_t* out_hold) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    cdef int status = OK
    lock_shard(seg, shard)
    crash_point(seg, CRASH_GET_LOCKED)
    e = find_entry(seg, hi, lo)
    if e == 0 or seg.entries[e].state == DELETED:
        status = ABSENT
    elif seg.entries[e].state == LOST:
        status = UNREAD if seg.entries[e].flags & UNREADABLE else GONE
    elif seg.entries[e].state != SEALED:
        status = ON_DISK if seg.entries[e].state == SPILLED else NOT_SEALED
    else:
        h = hold_for(seg, e, seg.slot)
        crash_point(seg, CRASH_GET_HELD)
        if h == 0:
            status = LEDGER_FULL
        else:
            change_pins(seg, h, 1)
            crash_point(seg, CRASH_GET_PINNED)
            lru_remove(seg, e)
            seg.entries[e].used_at_ns = pl_now_coarse_ns()
            out_entry[0] = e
            out_hold[0] = h
    unlock_shard(seg, shard)
    return status


cdef void unpin(Segment* seg, uint32_t e, uint32_t h) noexcept nogil:
    lock_shard(seg, shard_of_entry(seg, e))
    crash_point(seg, CRASH_RELEASE_LOCKED)
    change_pins(seg, h, -1)
    crash_point(seg, CRASH_RELEASE_UNPINNED)
    if hold_is_empty(&seg.holds[h]):
        remove_hold(seg, h)
        crash_point(seg, CRASH_RELEASE_UNHELD)
    settle(seg, e)


cdef int add_ref(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e == 0 or seg.entries[e].state == DELETED:
        unlock_shard(seg, shard)
        return ABSENT
    h = hold_for(seg, e, seg.slot)
    if h == 0:
        unlock_shard(seg, shard)
        return LEDGER_FULL
    change_refs(seg, h, 1)
    seg.entries[e].flags |= REFERENCED
    lru_remove(seg, e)
    state[0] = seg.entries[e].state
    unlock_shard(seg, shard)
    return OK


cdef int drop_ref(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, h
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    h = find_hold(seg, e, seg.slot) if e else 0
    if h == 0 or seg.holds[h].refs == 0:
        unlock_shard(seg, shard)
        return ABSENT
    change_refs(seg, h, -1)
    let_go(seg, e, h)
    settle(seg, e)
    return OK


cdef int delete(Segment* seg, uint64_t hi, uint64_t lo, bint only_evictable, uint32_t flags) noexcept nogil:
    """Out of reach at once, whoever holds references; the memory follows when the last pin goes.
    only_evictable: not if anybody holds it (eviction chose it without the lock)."""
    cdef uint32_t shard = shard_of_id(hi, lo), e
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e == 0 or seg.entries[e].state == DELETED:
        unlock_shard(seg, shard)
        return ABSENT
    if seg.entries[e].state != SEALED and (only_evictable or seg.entries[e].state != SPILLED):
        unlock_shard(seg, shard)
        return NOT_SEALED
    if only_evictable:
        if seg.entries[e].pins or seg.entries[e].refs or seg.entries[e].flags & KEPT:
            unlock_shard(seg, shard)
            return EXISTS
        seg.shards[shard].evictions += 1
    seg.entries[e].flags |= flags
    mark_deleted(seg, e)
    settle(seg, e)
    return OK


cdef uint32_t state_of(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t shard = shard_of_id(hi, lo), e, state
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    state = seg.entries[e].state if e else <uint32_t>FREE
    if state == DELETED:
        state = FREED if seg.entries[e].flags & GIVEN_UP else FREE
    unlock_shard(seg, shard)
    return state


cdef int64_t size_of(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    """Bytes of an object that is here, in memory or on disk; -1: it isn't."""
    cdef uint32_t shard = shard_of_id(hi, lo), e
    cdef int64_t size = -1
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    if e and seg.entries[e].state in (SEALED, SPILLED):
        size = <int64_t>seg.entries[e].size_bytes
    unlock_shard(seg, shard)
    return size


cdef bint is_known(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil:
    """Somebody holds a reference or waits, whatever has become of the data."""
    cdef uint32_t shard = shard_of_id(hi, lo), e
    cdef bint known
    lock_shard(seg, shard)
    e = find_entry(seg, hi, lo)
    known = e != 0 and (seg.entries[e].state != DELETED or seg.entries[e].refs != 0 or seg.entries[e].flags & KEPT != 0)
    unlock_shard(seg, shard)
    return known


# ---- the two ends of a channel ---------------------------------------------------------------------------------------


cdef int pin_for_peer(Segment* seg, uint32_t e, uint64_t address) noexcept nogil:
    """The other end of a channel holds it from the start: it has it in its list even if we die before telling."""
    cdef uint32_t shard = shard_of_entry(seg, e), h
    lock_shard(seg, shard)
    if not client_is(seg, address):
        unlock_shard(seg, shard)
        return OWNER_GONE
    h = add_hold(seg, e, <uint32_t>(address & 0xFFFF), 0)
    if h:
        change_pins(seg, h, 1)
    unlock_shard(seg, shard)
    return OK if h else LEDGER_FULL


cdef void close_channel(Segment* seg, uint32_t e, uint64_t leaving) noexcept nogil:
    """One end is leaving or dead: the other is told, and takes what is still in the ring."""
    cdef RingHeader* ring = <RingHeader*>(seg.data + seg.entries[e].offset)
    cdef uint64_t other = ring.receiver if ring.sender == leaving else ring.sender
    store32(&ring.closed, 1)
    if client_is(seg, other):
        add32(&seg.slots[other & 0xFFFF].inbox, 1)
        ring_all(seg, <uint32_t>(other & 0xFFFF))        # it may have died in the middle of ringing
