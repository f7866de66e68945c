from libc.stdint cimport uint32_t
from plasma._c.posix cimport add32, and32, full_fence, load32, pl_bell_send, pl_bell_socket, pl_futex_wake_all
from plasma.layout cimport (
    LANE_CONTROL, WAIT_BACKGROUND, WAIT_CONTROL, WAIT_EVENT, WAIT_FOREGROUND, WAIT_POLL, WAIT_WORK, Segment, Slot,
)


cdef void wake_loop(Segment* seg, Slot* slot) noexcept nogil:
    if seg.common.bell_fd < 0:
        seg.common.bell_fd = pl_bell_socket(0, 0, 0)
    if seg.common.bell_fd >= 0:
        pl_bell_send(seg.common.bell_fd, seg.header.token_hi, seg.header.token_lo, slot.address)


cdef void wake(Segment* seg, Slot* slot, uint32_t foreground, uint32_t background) noexcept nogil:
    """Wakes the first that waits of: foreground threads, the event loop, the background thread."""
    cdef uint32_t waiting = load32(&slot.waiting)
    if waiting & foreground:
        if and32(&slot.waiting, ~<uint32_t>WAIT_FOREGROUND) & foreground:
            add32(&slot.bell, 1)
            pl_futex_wake_all(&slot.bell)
    elif waiting & WAIT_POLL:
        if and32(&slot.waiting, ~<uint32_t>WAIT_POLL) & WAIT_POLL:
            wake_loop(seg, slot)
    elif waiting & background:
        if and32(&slot.waiting, ~<uint32_t>WAIT_BACKGROUND) & WAIT_BACKGROUND:
            add32(&slot.bell_background, 1)
            pl_futex_wake_all(&slot.bell_background)


cdef void ring_for_message(Segment* seg, uint32_t slot, uint32_t lane) noexcept nogil:
    """A message was published in one of the slot's rings."""
    full_fence()                         # SYNC: sleep/publish
    if lane == LANE_CONTROL:
        wake(seg, &seg.slots[slot], WAIT_CONTROL, WAIT_BACKGROUND)
    else:
        # Work is for whoever is free to do it; a background thread never is.
        wake(seg, &seg.slots[slot], WAIT_WORK, 0)


cdef void ring_for_event(Segment* seg, uint32_t slot) noexcept nogil:
    """Something that any of the client's waiters may wait for happened (a seal, freed memory): it must not be missed
    by one that is about to sleep, so the bell's number moves even when nobody sleeps. Foreground threads and the event
    loop may wait for different things, so both are woken; the background thread only when neither waits."""
    cdef uint32_t waiting
    add32(&seg.slots[slot].bell, 1)
    add32(&seg.slots[slot].bell_background, 1)
    full_fence()
    waiting = load32(&seg.slots[slot].waiting)
    if waiting & WAIT_EVENT:
        and32(&seg.slots[slot].waiting, ~<uint32_t>WAIT_FOREGROUND)
        pl_futex_wake_all(&seg.slots[slot].bell)
    if waiting & WAIT_POLL or not waiting & WAIT_EVENT:
        wake(seg, &seg.slots[slot], 0, WAIT_BACKGROUND)


cdef void ring_all(Segment* seg, uint32_t slot) noexcept nogil:
    """Wakes everybody, announced or not. After a death: the dead may have taken an announcement down and not lived to
    ring. And before a client closes. Announcements stay, so that nobody's new one is taken down."""
    add32(&seg.slots[slot].bell, 1)
    add32(&seg.slots[slot].bell_background, 1)
    pl_futex_wake_all(&seg.slots[slot].bell)
    pl_futex_wake_all(&seg.slots[slot].bell_background)
    wake_loop(seg, &seg.slots[slot])
