"""How long to look before sleeping.

To be woken costs two system calls and a context switch, and on an idle virtual machine tens of microseconds more, until
the halted core runs. So a wait that is likely to be short is spent looking. Whether it is likely the last waits tell, by
the rule of KVM's halt polling: double after a wait that a longer look would have caught, halve after one that none would.
"""
from libc.stdint cimport int64_t
from plasma._c.posix cimport pl_now_ns

cdef enum:
    LOOK_NS_MIN = 4_000
    LOOK_NS_MAX = 64_000

cdef struct Patience:
    int64_t look_ns                      # how long the next look lasts
    int64_t began                        # when the wait under way began; 0: none is

cdef inline void begin_wait(Patience* patience) noexcept nogil:
    patience.began = pl_now_ns()
    if patience.look_ns == 0:
        patience.look_ns = LOOK_NS_MIN

cdef inline void end_wait(Patience* patience) noexcept nogil:
    """Learns from a wait that began; threads that do so at once confuse the estimate and nothing else."""
    cdef int64_t waited
    if patience.began == 0:
        return
    waited = pl_now_ns() - patience.began
    patience.began = 0
    if waited > LOOK_NS_MAX:
        patience.look_ns = max(LOOK_NS_MIN, patience.look_ns // 2)
    elif waited > patience.look_ns:
        patience.look_ns = min(LOOK_NS_MAX, patience.look_ns * 2)
