"""The ledger: Hold records say which client (or which containing object) keeps an entry, and how often.

Always under the lock of the entry's shard. An entry's totals and all lists are derived from the records.

An entry that an agent keeps (KEEPING, and KEPT in the entry's flags) is in *use* while an object contains it or a client
that is no agent has a record on it. With its last use the keepers' records become UNNEEDED: they move to a list of
their own, and the keepers' bells ring. That is marked before the use goes (SYNC: told/gone), so a death in between leaves
a mark too many, which the keeper passes over, and never one too few.
"""
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_count, pl_invariant
from plasma.layout cimport KEPT, PROMISING, Entry, Hold, Segment, Slot

cdef uint32_t find_hold(Segment* seg, uint32_t entry, uint32_t slot) noexcept nogil
cdef uint32_t find_parent_hold(Segment* seg, uint32_t entry, uint32_t parent) noexcept nogil
cdef uint32_t add_hold(Segment* seg, uint32_t entry, uint32_t slot, uint32_t parent) noexcept nogil
cdef void remove_hold(Segment* seg, uint32_t hold) noexcept nogil
cdef bint is_used(Segment* seg, uint32_t entry, uint32_t but) noexcept nogil
cdef void leave_kept(Segment* seg, uint32_t hold) noexcept nogil
cdef void unmark_unneeded(Segment* seg, uint32_t hold) noexcept nogil
cdef void unmark_kept(Segment* seg, uint32_t hold) noexcept nogil
cdef void rebuild_holds(Segment* seg, uint32_t shard) noexcept nogil

cdef inline uint32_t hold_for(Segment* seg, uint32_t entry, uint32_t slot) noexcept nogil:
    """The client's record on an entry, made if need be. 0: the ledger is full."""
    cdef uint32_t h = find_hold(seg, entry, slot)
    if h == 0:
        h = add_hold(seg, entry, slot, 0)
    return h

cdef inline void change_pins(Segment* seg, uint32_t hold, int by) noexcept nogil:
    pl_invariant(seg.holds[hold].entry != 0)
    pl_invariant(by > 0 or (seg.holds[hold].pins > 0 and seg.entries[seg.holds[hold].entry].pins > 0))
    if by > 0:
        pl_count(seg.pins_made)
    else:
        pl_count(seg.pins_dropped)
    seg.holds[hold].pins += by
    seg.entries[seg.holds[hold].entry].pins += by

cdef inline void change_refs(Segment* seg, uint32_t hold, int by) noexcept nogil:
    pl_invariant(seg.holds[hold].entry != 0)
    pl_invariant(by > 0 or (seg.holds[hold].refs > 0 and seg.entries[seg.holds[hold].entry].refs > 0))
    seg.holds[hold].refs += by
    seg.entries[seg.holds[hold].entry].refs += by

cdef inline bint hold_is_empty(const Hold* hold) noexcept nogil:
    return hold.pins == 0 and hold.refs == 0 and hold.flags == 0 and hold.waits == 0

cdef inline bint keeps_nothing(const Hold* hold) noexcept nogil:
    """Empty, or a promise alone."""
    return hold.pins == 0 and hold.refs == 0 and hold.waits == 0 and not hold.flags & ~<uint32_t>PROMISING
