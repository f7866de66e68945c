from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport or32
from plasma.doorbell cimport ring_all, ring_for_event
from plasma.layout cimport (
    CHANNEL, CRASH_UNNEEDED_LISTED, CRASH_UNNEEDED_TOLD, FREE, KEEPING, KEPT, PROMISING, UNNEEDED, Entry, Hold, Segment, Shard,
    crash_point, shard_of_entry,
)


cdef uint32_t find_hold(Segment* seg, uint32_t e, uint32_t slot) noexcept nogil:
    """Walks the entry's list and the client's at once: an object with a thousand holders is found among the client's
    few, one of a client's million by its one holder. Channels have two holders and are found by those, and so are the
    records of agents on kept entries, which may be in another of their lists."""
    cdef uint32_t h = seg.entries[e].holders, mine = 0, flags = seg.entries[e].flags
    if not flags & CHANNEL and not (flags & KEPT and seg.slots[slot].agent):
        mine = seg.slots[slot].holds[shard_of_entry(seg, e)]
        if mine == 0:
            return 0
    while h:
        if seg.holds[h].slot == slot:
            return h
        h = seg.holds[h].next_of_entry
        if mine:
            if seg.holds[mine].entry == e:
                return mine
            mine = seg.holds[mine].next_of_slot
            if mine == 0:
                return 0
    return 0


cdef uint32_t find_parent_hold(Segment* seg, uint32_t e, uint32_t parent) noexcept nogil:
    cdef uint32_t h = seg.entries[e].parents
    while h and seg.holds[h].parent != parent:
        h = seg.holds[h].next_of_entry
    return h


cdef inline uint32_t* list_of(Segment* seg, const Hold* hold) noexcept nogil:
    """The client's list that a hold is in: channels and what is UNNEEDED apart, so that news are found quickly."""
    if seg.entries[hold.entry].flags & CHANNEL:
        return &seg.slots[hold.slot].channels
    if hold.flags & UNNEEDED:
        return &seg.slots[hold.slot].unneeded[shard_of_entry(seg, hold.entry)]
    return &seg.slots[hold.slot].holds[shard_of_entry(seg, hold.entry)]


cdef inline void link_hold(Segment* seg, uint32_t h) noexcept nogil:
    cdef Hold* hold = &seg.holds[h]
    cdef Entry* entry = &seg.entries[hold.entry]
    cdef uint32_t* head = &entry.holders if hold.slot else &entry.parents
    hold.prev_of_entry = 0
    hold.next_of_entry = head[0]
    if head[0]:
        seg.holds[head[0]].prev_of_entry = h
    head[0] = h
    if hold.slot:
        push(seg, list_of(seg, hold), h)


cdef inline void push(Segment* seg, uint32_t* head, uint32_t h) noexcept nogil:
    """Into a client's list."""
    seg.holds[h].prev_of_slot = 0
    seg.holds[h].next_of_slot = head[0]
    if head[0]:
        seg.holds[head[0]].prev_of_slot = h
    head[0] = h


cdef inline void take_out(Segment* seg, uint32_t* head, uint32_t h) noexcept nogil:
    """Of a client's list."""
    cdef Hold* hold = &seg.holds[h]
    if hold.prev_of_slot:
        seg.holds[hold.prev_of_slot].next_of_slot = hold.next_of_slot
    else:
        head[0] = hold.next_of_slot
    if hold.next_of_slot:
        seg.holds[hold.next_of_slot].prev_of_slot = hold.prev_of_slot


cdef uint32_t add_hold(Segment* seg, uint32_t e, uint32_t slot, uint32_t parent) noexcept nogil:
    cdef uint32_t shard = shard_of_entry(seg, e)
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t h = s.hold_free
    cdef Hold* hold
    if h:
        s.hold_free = seg.holds[h].next_of_entry
    else:
        if s.hold_high + 1 >= <uint32_t>1 << seg.hold_shift:
            return 0
        s.hold_high += 1
        h = (shard << seg.hold_shift) + s.hold_high
    s.holds_used += 1
    hold = &seg.holds[h]
    hold.slot = slot
    hold.parent = parent
    hold.pins = 0
    hold.refs = 0
    hold.flags = 0
    hold.waits = 0
    hold.entry = e                       # the record exists from here on
    link_hold(seg, h)
    return h


cdef void remove_hold(Segment* seg, uint32_t h) noexcept nogil:
    cdef Hold* hold = &seg.holds[h]
    cdef uint32_t e = hold.entry
    cdef Entry* entry = &seg.entries[e]
    cdef uint32_t shard = shard_of_entry(seg, e)
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t* slot_head
    if entry.flags & KEPT:
        leave_kept(seg, h)
    slot_head = list_of(seg, hold) if hold.slot else NULL
    entry.pins -= hold.pins
    entry.refs -= hold.refs
    hold.entry = 0                       # the record is gone from here on
    if hold.prev_of_entry:
        seg.holds[hold.prev_of_entry].next_of_entry = hold.next_of_entry
    elif hold.slot:
        entry.holders = hold.next_of_entry
    else:
        entry.parents = hold.next_of_entry
    if hold.next_of_entry:
        seg.holds[hold.next_of_entry].prev_of_entry = hold.prev_of_entry
    if hold.slot:
        take_out(seg, slot_head, h)
    hold.next_of_entry = s.hold_free
    s.hold_free = h
    s.holds_used -= 1


# ---- kept entries ----------------------------------------------------------------------------------------------------


cdef inline bint is_use(Segment* seg, const Hold* hold) noexcept nogil:
    return hold.slot == 0 or not (seg.slots[hold.slot].agent or keeps_nothing(hold))


cdef bint is_used(Segment* seg, uint32_t e, uint32_t but) noexcept nogil:
    """An object contains it, or a client that is no agent holds it. `but`: a record that doesn't count."""
    cdef uint32_t h = seg.entries[e].parents
    if h and (h != but or seg.holds[h].next_of_entry):
        return True
    h = seg.entries[e].holders
    while h:
        if h != but and is_use(seg, &seg.holds[h]):
            return True
        h = seg.holds[h].next_of_entry
    return False


cdef void leave_kept(Segment* seg, uint32_t h) noexcept nogil:
    """A record of a kept entry is about to go, or to be a promise only. If it is the last use, the keepers are told; a
    keeper's own ends its keep."""
    cdef uint32_t e = seg.holds[h].entry, k
    if seg.holds[h].slot and seg.slots[seg.holds[h].slot].agent:
        unmark_kept(seg, h)
        return
    if seg.holds[h].flags == PROMISING and keeps_nothing(&seg.holds[h]) or is_used(seg, e, h):
        return                           # a promise alone was no use; or there are others
    k = seg.entries[e].holders
    while k:
        if seg.holds[k].flags & KEEPING:
            mark_unneeded(seg, k)
        k = seg.holds[k].next_of_entry


cdef void mark_unneeded(Segment* seg, uint32_t h) noexcept nogil:
    cdef Hold* hold = &seg.holds[h]
    if not hold.flags & UNNEEDED:
        take_out(seg, list_of(seg, hold), h)
        hold.flags |= UNNEEDED           # SYNC: told/gone. From here on the keeper, or a repair of the shard, sees it
        crash_point(seg, CRASH_UNNEEDED_TOLD)
        push(seg, list_of(seg, hold), h)
        or32(&seg.slots[hold.slot].news, <uint32_t>1 << shard_of_entry(seg, hold.entry))
        crash_point(seg, CRASH_UNNEEDED_LISTED)
    ring_for_event(seg, hold.slot)


cdef void unmark_unneeded(Segment* seg, uint32_t h) noexcept nogil:
    cdef Hold* hold = &seg.holds[h]
    take_out(seg, list_of(seg, hold), h)
    hold.flags &= ~<uint32_t>UNNEEDED
    push(seg, list_of(seg, hold), h)


cdef void unmark_kept(Segment* seg, uint32_t h) noexcept nogil:
    """The entry is KEPT as long as another than record `h` keeps it."""
    cdef uint32_t k = seg.entries[seg.holds[h].entry].holders
    while k:
        if k != h and seg.holds[k].flags & KEEPING:
            return
        k = seg.holds[k].next_of_entry
    seg.entries[seg.holds[h].entry].flags &= ~<uint32_t>KEPT


cdef void rebuild_holds(Segment* seg, uint32_t shard) noexcept nogil:
    """Lists, totals and free list of a shard from the records. A record on a FREE entry, or one that holds nothing, is
    a step that its process didn't live to finish: dropped. One that holds nothing goes as if it were given up now, for
    what it held may have been the last use of a kept entry."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t entry_base = shard << seg.entry_shift
    cdef uint32_t base = shard << seg.hold_shift
    cdef uint32_t i, h
    cdef Entry* entry
    for i in range(1, seg.header.slots_max):
        if i > seg.header.slot_high:
            break
        seg.slots[i].holds[shard] = 0
        seg.slots[i].unneeded[shard] = 0
        if shard == 0:
            seg.slots[i].channels = 0
    for i in range(1, s.entry_high + 1):
        entry = &seg.entries[entry_base + i]
        entry.holders = 0
        entry.parents = 0
        entry.pins = 0
        entry.refs = 0
        entry.flags &= ~<uint32_t>KEPT
    s.hold_free = 0
    s.holds_used = 0
    for i in range(s.hold_high, 0, -1):
        h = base + i
        if seg.holds[h].entry and seg.entries[seg.holds[h].entry].state == FREE:
            seg.holds[h].entry = 0
        if seg.holds[h].entry == 0:
            seg.holds[h].next_of_entry = s.hold_free
            s.hold_free = h
            continue
        s.holds_used += 1
        seg.entries[seg.holds[h].entry].pins += seg.holds[h].pins
        seg.entries[seg.holds[h].entry].refs += seg.holds[h].refs
        if seg.holds[h].flags & KEEPING:
            seg.entries[seg.holds[h].entry].flags |= KEPT
        link_hold(seg, h)
    for i in range(s.hold_high, 0, -1):
        h = base + i
        if seg.holds[h].entry and hold_is_empty(&seg.holds[h]):
            remove_hold(seg, h)
    for i in range(1, seg.header.slot_high + 1):
        if seg.slots[i].unneeded[shard]:
            or32(&seg.slots[i].news, <uint32_t>1 << shard)
            ring_all(seg, i)             # the dead may have got to the mark and not to the bell
