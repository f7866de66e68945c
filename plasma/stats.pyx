"""Totals and listings for people and for inspect: what is in the store, who is attached, how full it is."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from plasma._c.posix cimport PL_DEBUG
from plasma.allocator cimport free_bytes, largest_free
from plasma.attachment cimport Client
from plasma.layout cimport (
    CHANNEL, FREE, KEEPING, KEPT, PAGE, PLACE_BITS, SHARD_COUNT, SLOT_ACTIVE, SLOT_FREE, SPILLED, Entry, Hold, Segment, round_up,
)
from plasma.mutex cimport lock_allocator, lock_shard, unlock_allocator, unlock_shard

from typing import NamedTuple

from plasma.layout import STATE_NAMES


cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()


class ObjectInfo(NamedTuple):
    """One object as Store.list() saw it."""

    object_id: bytes
    state: str
    size_bytes: int
    allocated_bytes: int
    pins: int
    refs: int
    creator: int
    offset: int
    #: the number of the file that has a copy; 0: none
    file: int


cdef bytes id_bytes(const Entry* entry):
    cdef char raw[16]
    memcpy(raw, &entry.id_hi, 8)
    memcpy(raw + 8, &entry.id_lo, 8)
    return PyBytes_FromStringAndSize(raw, 16)


def list_objects(Client client):
    cdef Segment* seg = client.seg
    cdef uint32_t shard, i
    cdef Entry* entry
    cdef int collecting
    infos = []
    for shard in range(SHARD_COUNT):
        collecting = PyGC_Disable()              # a Buffer in garbage would want the lock that we hold
        lock_shard(seg, shard)
        try:
            for i in range(1, seg.shards[shard].entry_high + 1):
                entry = &seg.entries[(shard << seg.entry_shift) + i]
                if entry.state != FREE and not entry.flags & CHANNEL:
                    infos.append((id_bytes(entry), STATE_NAMES[entry.state], entry.size_bytes,
                                  entry.allocated_bytes if entry.block else 0, entry.pins, entry.refs,
                                  entry.creator, entry.offset, entry.file >> PLACE_BITS))
        finally:
            unlock_shard(seg, shard)
            if collecting:
                PyGC_Enable()
    return [ObjectInfo(*info) for info in infos]


class HoldInfo(NamedTuple):
    """One record of the ledger as Store.holds() saw it: a client, or an object, that keeps an object."""

    object_id: bytes
    holder: int
    parent: bytes | None
    pins: int
    refs: int
    #: an agent keeps it
    keeps: bool


def list_holds(Client client):
    """Who keeps what. A parent's id is read without its shard's lock: a parent that goes meanwhile may be named wrongly."""
    cdef Segment* seg = client.seg
    cdef uint32_t shard, i
    cdef Entry* entry
    cdef Hold* hold
    cdef int collecting
    holds = []
    for shard in range(SHARD_COUNT):
        collecting = PyGC_Disable()              # a Buffer in garbage would want the lock that we hold
        lock_shard(seg, shard)
        try:
            for i in range(1, seg.shards[shard].hold_high + 1):
                hold = &seg.holds[(shard << seg.hold_shift) + i]
                if hold.entry == 0:
                    continue
                entry = &seg.entries[hold.entry]
                if entry.state == FREE or entry.flags & CHANNEL:
                    continue
                holds.append((id_bytes(entry), seg.slots[hold.slot].address if hold.slot else 0,
                              None if hold.slot else id_bytes(&seg.entries[hold.parent]), hold.pins, hold.refs,
                              hold.flags & KEEPING != 0))
        finally:
            unlock_shard(seg, shard)
            if collecting:
                PyGC_Enable()
    return [HoldInfo(*hold_info) for hold_info in holds]


def list_clients(Client client):
    cdef Segment* seg = client.seg
    cdef uint32_t i
    return [
        {"address": seg.slots[i].address, "pid": seg.slots[i].pid, "name": seg.slots[i].name.decode("utf-8", "replace"),
         "state": "active" if seg.slots[i].state == SLOT_ACTIVE else "reaping", "agent": bool(seg.slots[i].agent)}
        for i in range(1, seg.header.slot_high + 1) if seg.slots[i].state != SLOT_FREE
    ]


def memory(Client client):
    """What the objects and the channels take, and what is left."""
    cdef Segment* seg = client.seg
    cdef uint64_t largest, used, channels, unused
    lock_allocator(seg)
    largest = largest_free(seg)
    unused = free_bytes(seg)
    used = seg.allocator.used_bytes
    channels = seg.allocator.channel_bytes
    unlock_allocator(seg)
    return {
        "data_bytes": seg.header.objects_bytes, "used_bytes": used - channels,
        "channel_bytes": channels, "free_bytes": unused, "largest_free_bytes": largest,
        "touched_bytes": seg.allocator.fresh_at,
    }


def stats(Client client):
    cdef Segment* seg = client.seg
    cdef uint32_t shard, i, objects = 0, entries = 0, pinned = 0, referenced = 0, kept = 0, evictable = 0, active = 0
    cdef uint64_t holds = 0, evictions = 0, spilled = 0, spilled_bytes = 0
    cdef Entry* entry
    for shard in range(SHARD_COUNT):
        lock_shard(seg, shard)
        for i in range(1, seg.shards[shard].entry_high + 1):
            entry = &seg.entries[(shard << seg.entry_shift) + i]
            if entry.state == FREE or entry.flags & CHANNEL:
                continue
            objects += 1
            pinned += entry.pins > 0
            referenced += entry.refs > 0
            kept += entry.flags & KEPT != 0
            evictable += entry.pins == 0 and entry.refs == 0 and not entry.flags & KEPT
            if entry.state == SPILLED:
                spilled += 1
                spilled_bytes += entry.size_bytes
        holds += seg.shards[shard].holds_used
        evictions += seg.shards[shard].evictions
        unlock_shard(seg, shard)
    for i in range(1, seg.header.slot_high + 1):
        active += seg.slots[i].state == SLOT_ACTIVE
    totals = memory(client) | {
        "objects": objects, "objects_pinned": pinned,
        "objects_referenced": referenced, "objects_kept": kept,
        "objects_evictable": evictable, "objects_max": seg.header.objects_max,
        "holds": holds, "clients": active, "clients_ever": seg.header.clients_ever, "reaped": seg.header.reaped_ever,
        "allocations": seg.allocator.allocations, "frees": seg.allocator.frees, "evictions": evictions,
        "objects_spilled": spilled, "spilled_bytes": spilled_bytes,
        "spilled_ever": seg.header.spilled_ever, "restored_ever": seg.header.restored_ever,
        "repairs": seg.header.repairs_ever, "allocator_rebuilds": seg.allocator.rebuilds,
    }
    if PL_DEBUG:
        totals["my_pins_made"] = seg.pins_made
        totals["my_pins_dropped"] = seg.pins_dropped
        totals["my_blocks_taken"] = seg.blocks_taken
        totals["my_blocks_freed"] = seg.blocks_freed
    return totals


def trim(Client client):
    """Punches the whole pages out of every free block, under the allocator's lock."""
    cdef Segment* seg = client.seg
    cdef uint64_t start, end, punched = 0
    cdef uint32_t b
    lock_allocator(seg)
    b = seg.allocator.last
    while b:
        if not seg.blocks[b].used:
            start = round_up(seg.blocks[b].offset, PAGE)
            end = (seg.blocks[b].offset + seg.blocks[b].size) & ~<uint64_t>(PAGE - 1)
            if end > start and client.arena.give_back(start, end - start) == 0:
                punched += end - start
        b = seg.blocks[b].before
    unlock_allocator(seg)
    return punched
