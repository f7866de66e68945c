from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strncpy
from plasma._c.posix cimport pl_liveness_drop, pl_liveness_take, pl_now_ns, store32
from plasma.layout cimport NAME_BYTES, SLOT_ACTIVE, SLOT_FREE, Segment, Slot
from plasma.mutex cimport lock_clients, unlock_clients

cdef extern from "unistd.h" nogil:
    int getpid() noexcept


cdef uint32_t register(Segment* seg, const char* name, bint agent) noexcept nogil:
    """Takes a slot for this process. 0: all are in use."""
    cdef uint32_t i
    cdef uint32_t* link
    cdef Slot* slot
    lock_clients(seg)
    link = &seg.header.slot_free
    while link[0] and pl_liveness_take(seg.common.liveness_fd, link[0]) != 0:
        link = &seg.slots[link[0]].next_free     # its last owner's lock lives on in a child that didn't exec yet
    i = link[0]
    if i:
        link[0] = seg.slots[i].next_free
    elif seg.header.slot_high + 1 < seg.header.slots_max:
        if pl_liveness_take(seg.common.liveness_fd, seg.header.slot_high + 1) == 0:
            seg.header.slot_high += 1
            i = seg.header.slot_high
    if i:
        slot = &seg.slots[i]
        slot.generation += 1
        slot.address = (<uint64_t>slot.generation << 16) | i
        slot.pid = getpid()
        slot.joined_at_ns = pl_now_ns()
        slot.waiting = 0
        slot.space_wanted = 0
        slot.news = 0
        slot.agent = agent
        strncpy(slot.name, name, NAME_BYTES - 1)
        slot.name[NAME_BYTES - 1] = 0
        seg.header.clients_ever += 1
        seg.common.mine[i] = 1
        store32(&slot.state, SLOT_ACTIVE)
    unlock_clients(seg)
    return i


cdef void give_slot(Segment* seg, uint32_t i) noexcept nogil:
    """The slot's ledger is empty and its liveness lock ours."""
    lock_clients(seg)
    store32(&seg.slots[i].state, SLOT_FREE)
    seg.slots[i].next_free = seg.header.slot_free
    seg.header.slot_free = i
    seg.common.mine[i] = 0
    pl_liveness_drop(seg.common.liveness_fd, i)  # last: a reaper must not get it while the slot looks taken
    unlock_clients(seg)


cdef bint claim_dead(Segment* seg, uint32_t i) noexcept nogil:
    """Takes the liveness lock of a slot whose client is dead: from here on the caller is its one reaper.

    Under the clients' lock, because a slot may be given back and taken anew between the look and the lock: a reaper
    that went on then would put it into the free list twice. A lock that we hold already can be taken again, hence `mine`.
    """
    cdef bint claimed
    lock_clients(seg)
    claimed = (seg.slots[i].state != SLOT_FREE and not seg.common.mine[i]
               and pl_liveness_take(seg.common.liveness_fd, i) == 0)
    unlock_clients(seg)
    return claimed


cdef void rebuild_slots(Segment* seg) noexcept nogil:
    cdef uint32_t i
    seg.header.slot_free = 0
    for i in range(seg.header.slot_high, 0, -1):
        if seg.slots[i].state == SLOT_FREE:
            seg.slots[i].next_free = seg.header.slot_free
            seg.header.slot_free = i
