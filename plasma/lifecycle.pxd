from libc.stdint cimport int64_t, uint32_t, uint64_t
from plasma.layout cimport Segment

cdef enum Status:
    OK = 0
    NO_SPACE = 1
    TABLE_FULL = 2
    LEDGER_FULL = 3
    EXISTS = 4
    ABSENT = 5
    NOT_SEALED = 6
    GONE = 7                        # lost: it will never be sealed
    OWNER_GONE = 8
    NOT_CREATOR = 9
    SEALED_ALREADY = 10
    CONTAINED_ABSENT = 11
    ON_DISK = 12
    UNREAD = 13                     # lost: its file was missing or damaged
    BUSY = 14                       # another client is filling it

cdef int create(Segment* seg, uint64_t hi, uint64_t lo, uint64_t size, uint32_t flags, uint64_t owner,
                uint32_t contained, uint32_t* entry, uint32_t* hold, bint* fresh) noexcept nogil
cdef int contain(Segment* seg, uint32_t entry, uint64_t hi, uint64_t lo) noexcept nogil
cdef int seal(Segment* seg, uint32_t entry, uint32_t hold, bint keep_pin) noexcept nogil
cdef int abort(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef int record(Segment* seg, uint64_t hi, uint64_t lo, uint32_t slot, uint32_t* entry, uint32_t* hold) noexcept nogil
cdef void let_go(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef void abort_locked(Segment* seg, uint32_t entry, uint32_t hold, bint creator_died) noexcept nogil
cdef int pin(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* entry, uint32_t* hold) noexcept nogil
cdef void unpin(Segment* seg, uint32_t entry, uint32_t hold) noexcept nogil
cdef int add_ref(Segment* seg, uint64_t hi, uint64_t lo, uint32_t* state) noexcept nogil
cdef int drop_ref(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef int delete(Segment* seg, uint64_t hi, uint64_t lo, bint only_evictable, uint32_t flags) noexcept nogil
cdef int pin_for_peer(Segment* seg, uint32_t entry, uint64_t address) noexcept nogil
cdef void close_channel(Segment* seg, uint32_t entry, uint64_t leaving) noexcept nogil
cdef uint32_t state_of(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef int64_t size_of(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef bint is_known(Segment* seg, uint64_t hi, uint64_t lo) noexcept nogil
cdef bint client_is(Segment* seg, uint64_t address) noexcept nogil
cdef bint is_orphan(Segment* seg, uint32_t entry) noexcept nogil
cdef void lose_locked(Segment* seg, uint32_t entry) noexcept nogil
