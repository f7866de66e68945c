"""Checks a whole segment: every byte is free, or owned by exactly one live object, and every derived thing is derived
rightly. Also the totals for people. Read-only but for trim()."""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_mutex_lock, pl_mutex_repaired, pl_mutex_unlock
from plasma.allocator cimport check_blocks, free_bytes, largest_free
from plasma.attachment cimport Client
from plasma.layout cimport (
    CHANNEL, CREATED, DELETED, FILLING, FREE, IN_LRU, KEEPING, KEPT, LOST, PENDING, PROMISING, REFERENCED, SEALED, SHARD_COUNT,
    SLOT_FREE, SPILLED, UNNEEDED, Entry, Hold, Segment, shard_of_entry,
)
from plasma.mutex cimport lock_allocator, lock_shard, unlock_allocator, unlock_shard
from plasma.object_table cimport find_entry
from plasma.pins cimport hold_is_empty, is_used

from typing import NamedTuple


cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()


class Audit(NamedTuple):
    """What audit() found. `problems` is empty in a sound store."""

    ok: bool
    problems: list
    objects: int
    channels: int
    clients: int
    bytes_used: int
    bytes_free: int
    pins: int
    refs: int


cdef void lock_all(Segment* seg) noexcept:
    cdef uint32_t i
    while True:
        for i in range(SHARD_COUNT):
            lock_shard(seg, i)
        if pl_mutex_lock(seg.allocator.mutex) == 1:
            seg.allocator.dirty = 1
            pl_mutex_repaired(seg.allocator.mutex)
        if not seg.allocator.dirty:
            return
        unlock_all(seg)
        seg.rebuild_allocator(seg)


cdef void unlock_all(Segment* seg) noexcept:
    cdef uint32_t i
    pl_mutex_unlock(seg.allocator.mutex)
    for i in range(SHARD_COUNT):
        unlock_shard(seg, i)


def audit(Client client):
    cdef Segment* seg = client.seg
    cdef uint32_t shard, i, e, h, b, pins, refs, objects = 0, channels = 0, clients = 0
    cdef uint64_t used = 0, owned = 0, total_pins = 0, total_refs = 0
    cdef Entry* entry
    cdef const char* wrong
    cdef list problems = []
    cdef int collecting = PyGC_Disable()         # a Buffer in garbage would want a lock that we hold
    lock_all(seg)
    try:
        wrong = check_blocks(seg, &used)
        if wrong != NULL:
            problems.append(f"allocator: {(<bytes>wrong).decode()}")
        for shard in range(SHARD_COUNT):
            _audit_holds(seg, shard, problems)
            for i in range(1, seg.shards[shard].entry_high + 1):
                e = (shard << seg.entry_shift) + i
                entry = &seg.entries[e]
                if entry.state == FREE:
                    continue
                if entry.flags & CHANNEL:
                    channels += 1
                else:
                    objects += 1
                total_pins += entry.pins
                total_refs += entry.refs
                _audit_entry(seg, e, problems)
                if entry.block:
                    owned += entry.allocated_bytes
            if seg.shards[shard].unswept:
                problems.append(f"shard {shard} has not been swept since somebody died in it: call reap()")
        for i in range(1, seg.header.slot_high + 1):
            if seg.slots[i].state != SLOT_FREE:
                clients += 1
            if seg.slots[i].intent:
                owned += seg.slots[i].intent_bytes
                if seg.slots[i].state == SLOT_FREE:
                    problems.append(f"slot {i} is free and still has a block in its intent")
            if seg.slots[i].state == SLOT_FREE and (
                    seg.slots[i].file_intent or seg.slots[i].files_next < seg.slots[i].files_end):
                problems.append(f"slot {i} is free and still has spill files to remove")
        if owned != used:
            problems.append(f"{used} bytes are allocated, {owned} are owned by objects: {<long long>(used - owned)} leaked")
        return Audit(not problems, problems, objects, channels, clients, used, free_bytes(seg), total_pins, total_refs)
    finally:
        unlock_all(seg)
        if collecting:
            PyGC_Enable()


cdef _audit_holds(Segment* seg, uint32_t shard, list problems):
    cdef uint32_t i, h, n = 0
    cdef int unneeded = 0
    cdef Hold* hold
    for i in range(1, seg.shards[shard].hold_high + 1):
        h = (shard << seg.hold_shift) + i
        hold = &seg.holds[h]
        if hold.entry == 0:
            continue
        n += 1
        if shard_of_entry(seg, hold.entry) != shard or seg.entries[hold.entry].state == FREE:
            problems.append(f"hold {h} is on an entry that is free or elsewhere")
        elif hold.slot and seg.slots[hold.slot].state == SLOT_FREE:
            problems.append(f"hold {h} belongs to client slot {hold.slot}, which is free")
        elif hold_is_empty(hold):
            problems.append(f"hold {h} is empty")
        elif not hold.slot and (not hold.parent or seg.entries[hold.parent].state == FREE):
            problems.append(f"hold {h} belongs to object entry {hold.parent}, which is free")
        elif hold.flags & KEEPING and not (hold.slot and seg.slots[hold.slot].agent):
            problems.append(f"hold {h} keeps an entry and is no agent's")
        elif hold.flags & UNNEEDED and not hold.flags & KEEPING:
            problems.append(f"hold {h} has news of an entry that it doesn't keep")
        elif hold.flags & PROMISING and seg.entries[hold.entry].state not in (PENDING, CREATED):
            problems.append(f"hold {h} promises what is there, or lost")
        unneeded += hold.flags & UNNEEDED != 0
    for i in range(1, seg.header.slot_high + 1):
        h = seg.slots[i].unneeded[shard]
        if h and not seg.slots[i].news >> shard & 1:
            problems.append(f"client slot {i} has news in shard {shard} that it doesn't know of")
        while h:
            if seg.holds[h].slot != i or not seg.holds[h].flags & UNNEEDED:
                problems.append(f"client slot {i} has hold {h} among its news in shard {shard}, which is none")
                break
            unneeded -= 1
            h = seg.holds[h].next_of_slot
    if unneeded:
        problems.append(f"shard {shard} has news that are in no client's list")
    if n != seg.shards[shard].holds_used:
        problems.append(f"shard {shard} counts {seg.shards[shard].holds_used} holds, there are {n}")


cdef _audit_entry(Segment* seg, uint32_t e, list problems):
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t h, pins = 0, refs = 0, holders = 0
    cdef bint kept = False
    name = f"entry {e} ({entry.id_hi:016x}{entry.id_lo:016x}, state {entry.state})"
    for head in (entry.holders, entry.parents):
        h = head
        while h:
            if seg.holds[h].entry != e:
                problems.append(f"{name}: its list of holds leads to another entry's")
                break
            pins += seg.holds[h].pins
            refs += seg.holds[h].refs
            holders += 1
            kept = kept or seg.holds[h].flags & KEEPING
            h = seg.holds[h].next_of_entry
    if pins != entry.pins or refs != entry.refs:
        problems.append(f"{name}: counts {entry.pins} pins and {entry.refs} references, its holds {pins} and {refs}")
    if kept != (entry.flags & KEPT != 0):
        problems.append(f"{name}: is kept by an agent and doesn't know, or the reverse")
    if not entry.flags & CHANNEL and find_entry(seg, entry.id_hi, entry.id_lo) != e:
        problems.append(f"{name}: can't be found by its id")
    if entry.state == PENDING or entry.state == LOST:
        if entry.block:
            problems.append(f"{name}: owns memory")
        if not holders:
            problems.append(f"{name}: nobody holds it")
    if entry.state == SEALED or (entry.state == CREATED and not entry.file):      # with a file: a copy that is being dropped
        if not entry.block or not seg.blocks[entry.block].used:
            problems.append(f"{name}: owns no memory")
        elif (seg.blocks[entry.block].offset != entry.offset or seg.blocks[entry.block].size != entry.allocated_bytes
              or seg.blocks[entry.block].entry != e):
            problems.append(f"{name}: its block is not the one it thinks")
    if entry.state == SPILLED and (entry.block != 0) != (entry.flags & FILLING != 0):
        problems.append(f"{name}: is on disk and owns memory that nobody fills")
    if entry.state == SPILLED and (not entry.file or (pins == 0 and refs == 0 and not kept)):
        problems.append(f"{name}: is on disk without a file, or for nobody")
    if entry.flags & FILLING and entry.state != SPILLED and entry.state != DELETED:
        problems.append(f"{name}: is filled from disk and not there")
    if entry.file and entry.state not in (SEALED, SPILLED, CREATED, DELETED):
        problems.append(f"{name}: has a file")
    if entry.state == CREATED and not holders:
        problems.append(f"{name}: is being written by nobody")
    if kept and entry.flags & IN_LRU:
        problems.append(f"{name}: is kept, and may be evicted")
    if entry.state == SEALED and pins == 0 and refs == 0 and not kept and (
            entry.flags & REFERENCED or not entry.flags & IN_LRU):
        problems.append(f"{name}: nothing keeps it, and it was not freed")
    if entry.state == DELETED and pins == 0 and not holders:
        problems.append(f"{name}: is deleted, held by nobody, and was not freed")
