from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from plasma._c.posix cimport cas32, full_fence, load32, load64, store32, store64
from plasma.layout cimport (
    CRASH_RECEIVE_TAKEN, CRASH_SEND_CLAIMED, CRASH_SEND_PUBLISHED, CRASH_SEND_WRITTEN, RECORD_PADDING, RECORD_READY,
    RECORD_REVOKED, RECORD_TAKEN, Record, RingHeader, Segment, crash_point, round_up,
)


cdef inline Record* record_at(RingHeader* ring, uint64_t position) noexcept nogil:
    return <Record*>(<char*>ring + sizeof(RingHeader) + (position & (RING_BYTES - 1)))


cdef uint64_t ring_used(const RingHeader* ring) noexcept nogil:
    return load64(&ring.tail) - load64(&ring.head)


cdef uint64_t ring_send(Segment* seg, RingHeader* ring, const char* payload, uint32_t size) noexcept nogil:
    """The message's ticket (its position + 1), or 0 when there is no room now."""
    cdef uint64_t need = round_up(size + sizeof(Record), 16)
    cdef uint64_t at = ring.tail
    cdef uint64_t lap_rest = RING_BYTES - (at & (RING_BYTES - 1))
    cdef uint64_t total = need if need <= lap_rest else lap_rest + need
    cdef Record* record
    if at & 15:
        return 0                         # damaged: nothing is written to where it leads
    if at + total - load64(&ring.head) > RING_BYTES:
        # SYNC: full/passed. Announce, then look again: the consumer moves head, then looks at the announcement.
        store32(&ring.sender_waits, 1)
        full_fence()
        if at + total - load64(&ring.head) > RING_BYTES:
            return 0
        store32(&ring.sender_waits, 0)
    crash_point(seg, CRASH_SEND_CLAIMED)
    if need > lap_rest:
        record = record_at(ring, at)
        record.size = <uint32_t>(lap_rest - sizeof(Record))
        store32(&record.state, RECORD_PADDING)
        at += lap_rest
    record = record_at(ring, at)
    record.size = size
    memcpy(<char*>record + sizeof(Record), payload, size)
    store32(&record.state, RECORD_READY)
    crash_point(seg, CRASH_SEND_WRITTEN)
    store64(&ring.tail, at + need)       # SYNC: publish/take
    crash_point(seg, CRASH_SEND_PUBLISHED)
    return at + 1


cdef bint ring_revoke(RingHeader* ring, uint64_t ticket) noexcept nogil:
    """True: the consumer has not seen the message and never will. Only the producer may call it.

    A record before head has been taken and may have been overwritten by a later one of ours, but only by ours: so
    looking at head first is enough.
    """
    cdef uint64_t at = ticket - 1
    if at < load64(&ring.head) or at >= ring.tail or at & 15:
        return False
    return cas32(&record_at(ring, at).state, RECORD_READY, RECORD_REVOKED)


cdef void close_damaged(RingHeader* ring, uint64_t tail) noexcept nogil:
    store32(&ring.closed, 1)
    ring_pass(ring, tail)


cdef const char* ring_take(Segment* seg, RingHeader* ring, uint32_t* size, uint64_t* next_head) noexcept nogil:
    """The next message's bytes, which stay until ring_pass(next_head); NULL: none. Positions and sizes are checked, so
    that a damaged ring ends in silence and not in a crash: it is closed, and its sender told so."""
    cdef uint64_t at = ring.head
    cdef uint64_t tail = load64(&ring.tail)          # SYNC: publish/take
    cdef uint64_t end
    cdef uint32_t bytes
    cdef Record* record
    while at != tail:
        if (at | tail) & 15 or tail - at > RING_BYTES:
            close_damaged(ring, tail)
            return NULL
        record = record_at(ring, at)
        bytes = load32(&record.size)                 # once: what is checked is what is used
        end = at + round_up(<uint64_t>bytes + sizeof(Record), 16)
        if end > tail or (at & (RING_BYTES - 1)) + sizeof(Record) + bytes > RING_BYTES:
            close_damaged(ring, tail)
            return NULL
        if cas32(&record.state, RECORD_READY, RECORD_TAKEN):
            crash_point(seg, CRASH_RECEIVE_TAKEN)
            size[0] = bytes
            next_head[0] = end
            return <char*>record + sizeof(Record)
        at = end                         # revoked, or the padding at the end of a lap
        ring_pass(ring, at)
    return NULL


cdef void ring_pass(RingHeader* ring, uint64_t next_head) noexcept nogil:
    store64(&ring.head, next_head)
