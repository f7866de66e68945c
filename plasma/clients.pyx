from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strncpy
from plasma._c.posix cimport pl_liveness_drop, pl_liveness_take, pl_now_ns, store32
from plasma.layout cimport NAME_BYTES, SLOT_ACTIVE, SLOT_FREE, Segment, Slot
from plasma.mutex cimport lock_clients, unlock_clients

cdef extern from "unistd.h" nogil:
    int getpid() noexcept


cdef uint32_t register(Segment* seg, const char* name) noexcept nogil:
    """Takes a slot for this process. 0: all are in use."""
    cdef uint32_t i
    cdef Slot* slot
    lock_clients(seg)
    i = seg.header.slot_free
    if i:
        seg.header.slot_free = seg.slots[i].next_free
    elif seg.header.slot_high + 1 < seg.header.slots_max:
        seg.header.slot_high += 1
        i = seg.header.slot_high
    if i and pl_liveness_take(seg.liveness_fd, i) == 0:
        slot = &seg.slots[i]
        slot.generation += 1
        slot.address = (<uint64_t>slot.generation << 16) | i
        slot.pid = getpid()
        slot.joined_at_ns = pl_now_ns()
        slot.waiting = 0
        slot.space_wanted = 0
        strncpy(slot.name, name, NAME_BYTES - 1)
        slot.name[NAME_BYTES - 1] = 0
        seg.header.clients_ever += 1
        store32(&slot.state, SLOT_ACTIVE)
    else:
        i = 0
    unlock_clients(seg)
    return i


cdef void give_slot(Segment* seg, uint32_t i) noexcept nogil:
    """The slot's ledger is empty and its liveness lock ours."""
    lock_clients(seg)
    pl_liveness_drop(seg.liveness_fd, i)
    store32(&seg.slots[i].state, SLOT_FREE)
    seg.slots[i].next_free = seg.header.slot_free
    seg.header.slot_free = i
    unlock_clients(seg)


cdef void rebuild_slots(Segment* seg) noexcept nogil:
    cdef uint32_t i
    seg.header.slot_free = 0
    for i in range(seg.header.slot_high, 0, -1):
        if seg.slots[i].state == SLOT_FREE:
            seg.slots[i].next_free = seg.header.slot_free
            seg.header.slot_free = i
