from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_now_ns
from plasma cimport lifecycle
from plasma.attachment cimport Client
from plasma.channel cimport Endpoint
from plasma.layout cimport Contained, Segment, round_up
from plasma.recovery cimport reap_all
from plasma.room cimport make_room
from plasma.spiller cimport Spiller
from plasma.waiters cimport announce_space_waiter, retire_space_waiter

# Caps what is added to a clock: 30 years.
FOREVER_S = 1e9


cdef int create_when_room(Client client, Endpoint endpoint, Spiller spiller, uint64_t hi, uint64_t lo, uint64_t size,
                          uint32_t flags, uint64_t holder, uint32_t count, timeout_s, uint32_t* entry, uint32_t* hold,
                          bint* fresh) except -1:
    """Evicts what nobody wants, reaps the dead, moves to disk what nobody uses, and at last waits for others to let go."""
    cdef Segment* seg = client.seg
    cdef uint64_t need = round_up(size, 16) + count * sizeof(Contained) + 4096
    cdef int status = lifecycle.NO_SPACE
    deadline = None if timeout_s is None else pl_now_ns() + int(min(timeout_s, FOREVER_S) * 1e9)
    waiting = False
    disk_full = False                # said once: to try again each second would only wear it out
    client.views += 1                # another thread's close() must not unmap what we are about to take
    try:
        while True:
            bell = endpoint.bell()
            status = lifecycle.create(seg, hi, lo, size, flags, holder, count, entry, hold, fresh)
            while status == lifecycle.NO_SPACE and make_room(seg, need):
                status = lifecycle.create(seg, hi, lo, size, flags, holder, count, entry, hold, fresh)
            if status != lifecycle.NO_SPACE:
                return status
            if reap_all(seg):
                continue
            if not disk_full:
                if spiller.make_room(need):
                    continue
                disk_full = spiller.out_of_disk is not None
            if deadline is not None and pl_now_ns() >= deadline:
                return status
            if not waiting:
                announce_space_waiter(seg)
                waiting = True
                continue             # once more: space may have been freed before the announcement
            # A dead client rings nobody, and what is unpinned can be spilled; hence the second.
            left = 1.0 if deadline is None else min(1.0, max(0.0, (deadline - pl_now_ns()) / 1e9))
            endpoint.wait(0, left, bell)
            client.check()
    finally:
        if waiting:
            retire_space_waiter(seg)
        client.view_gone()
