from libc.stdint cimport uint32_t, uint64_t
from plasma.layout cimport CHANNEL, FREE, Entry, Hold, Segment, Shard, shard_of_entry


cdef uint32_t find_hold(Segment* seg, uint32_t e, uint32_t slot) noexcept nogil:
    """Walks the entry's list and the client's at once: an object with a thousand holders is found among the client's
    few, one of a client's million by its one holder. Channels have two holders and are found by those."""
    cdef uint32_t h = seg.entries[e].holders, mine = 0
    if not seg.entries[e].flags & CHANNEL:
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
    """The client's list that a hold is in: channels apart, so that their receiver finds new ones quickly."""
    if seg.entries[hold.entry].flags & CHANNEL:
        return &seg.slots[hold.slot].channels
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
        head = list_of(seg, hold)
        hold.prev_of_slot = 0
        hold.next_of_slot = head[0]
        if head[0]:
            seg.holds[head[0]].prev_of_slot = h
        head[0] = h


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
    cdef uint32_t* slot_head = list_of(seg, hold) if hold.slot else NULL
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
        if hold.prev_of_slot:
            seg.holds[hold.prev_of_slot].next_of_slot = hold.next_of_slot
        else:
            slot_head[0] = hold.next_of_slot
        if hold.next_of_slot:
            seg.holds[hold.next_of_slot].prev_of_slot = hold.prev_of_slot
    hold.next_of_entry = s.hold_free
    s.hold_free = h
    s.holds_used -= 1


cdef void rebuild_holds(Segment* seg, uint32_t shard) noexcept nogil:
    """Lists, totals and free list of a shard from the records. A record on a FREE entry, or one that holds nothing, is
    a step that its process didn't live to finish: dropped."""
    cdef Shard* s = &seg.shards[shard]
    cdef uint32_t entry_base = shard << seg.entry_shift
    cdef uint32_t base = shard << seg.hold_shift
    cdef uint32_t i, h
    cdef Entry* entry
    for i in range(1, seg.header.slots_max):
        if i > seg.header.slot_high:
            break
        seg.slots[i].holds[shard] = 0
        if shard == 0:
            seg.slots[i].channels = 0
    for i in range(1, s.entry_high + 1):
        entry = &seg.entries[entry_base + i]
        entry.holders = 0
        entry.parents = 0
        entry.pins = 0
        entry.refs = 0
    s.hold_free = 0
    s.holds_used = 0
    for i in range(s.hold_high, 0, -1):
        h = base + i
        if seg.holds[h].entry and (seg.entries[seg.holds[h].entry].state == FREE or hold_is_empty(&seg.holds[h])):
            seg.holds[h].entry = 0
        if seg.holds[h].entry == 0:
            seg.holds[h].next_of_entry = s.hold_free
            s.hold_free = h
            continue
        s.holds_used += 1
        seg.entries[seg.holds[h].entry].pins += seg.holds[h].pins
        seg.entries[seg.holds[h].entry].refs += seg.holds[h].refs
        link_hold(seg, h)
