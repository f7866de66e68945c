cimport cython
import weakref

from libc.stdlib cimport calloc, free
from plasma._c.posix cimport pl_close_in_children, pl_fork_depth, pl_fork_watch, pl_reopen
from plasma.arena cimport Arena
from plasma.doorbell cimport ring_all
from plasma.clients cimport give_slot, register
from plasma.recovery cimport clear_slot, install_repairs

from plasma.errors import ForkedStoreError, StoreClosedError, TooManyClientsError

cdef extern from "unistd.h" nogil:
    int close(int fd) noexcept

# What posix.h knows of forks it knows in this module alone: a header's variables are each module's own.
pl_fork_watch()

# For the crash tests alone, which arm every client of a process (_faults.pyx).
_clients = weakref.WeakSet()


cdef int join(Arena arena) except -1:
    """One more client in this mapping. Their liveness locks are on different bytes, so one descriptor holds all."""
    if arena.common.mine == NULL:
        arena.common.mine = <char*>calloc(arena.seg.header.slots_max, 1)
        if arena.common.mine == NULL:
            raise MemoryError()
    if arena.common.liveness_fd < 0:
        arena.common.liveness_fd = pl_reopen(arena.fd)
        if arena.common.liveness_fd < 0:
            raise OSError("can't open the segment anew through /proc/self/fd (is /proc mounted?)")
        pl_close_in_children(arena.common.liveness_fd, True)
    arena.clients += 1
    return 0


cdef void part(Arena arena, uint32_t fork_depth) noexcept:
    """One client less; with the last the mapping goes."""
    arena.clients -= 1
    if arena.clients:
        return
    if fork_depth == pl_fork_depth():            # a child's copy is closed already
        pl_close_in_children(arena.common.liveness_fd, False)
        close(arena.common.liveness_fd)
    free(arena.common.mine)
    arena.common.mine = NULL
    arena.release()


@cython.no_gc                            # can be in no cycle; its end must find what it refers to intact
cdef class Client:
    def __cinit__(self, Arena arena, bytes name, bint agent=False):
        self.arena = arena
        self.seg = &self.view
        self.fork_depth = pl_fork_depth()
        join(arena)
        self.joined = True
        self.view = arena.seg
        install_repairs(self.seg)
        self.seg.slot = register(self.seg, name, agent)
        if self.seg.slot == 0:
            raise TooManyClientsError(
                f"all {self.seg.header.slots_max - 1} client slots of this store are in use; "
                "reap() dead clients, or create the store with a larger max_clients"
            )
        self.seg.address = self.seg.slots[self.seg.slot].address
        self.open = True
        _clients.add(self)

    def __dealloc__(self):
        if self.seg is NULL:
            return
        self.leave()

    cdef bint usable(self) noexcept:
        """May touch the segment's shared state: registered, and not a forked copy."""
        return self.open and self.fork_depth == pl_fork_depth()

    cdef int check(self) except -1:
        if self.open and not self.closing and self.fork_depth == pl_fork_depth():
            return 0
        if self.fork_depth != pl_fork_depth():
            raise ForkedStoreError(
                "this Store belongs to the process that forked; in the child open one of its own with "
                "Store.attach(store.fd) or plasma.connect(path)"
            )
        raise StoreClosedError("this Store has been closed")

    cdef void view_gone(self) noexcept:
        self.views -= 1
        if self.closing and self.views == 0:
            self.leave()

    cdef void leave(self) noexcept:
        """Gives back everything this client holds, and its slot."""
        if self.usable():
            self.open = False
            clear_slot(self.seg, self.seg.slot)
            give_slot(self.seg, self.seg.slot)
        self.open = False
        if self.joined:
            self.joined = False
            part(self.arena, self.fork_depth)

    def begin_close(self):
        """Threads of ours that sleep in wait() are woken, and find the client closed."""
        self.closing = True
        ring_all(self.seg, self.seg.slot)
        if self.views == 0:
            self.leave()
