from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_count, pl_invariant
from plasma.layout cimport (
    ALIGNMENT, CRASH_CREATE_ALLOCATED, CRASH_CREATE_ALLOCATING, CRASH_DELETE_MERGING, FIRST_LEVELS, SECOND_LEVELS,
    USED_BY_CHANNEL, USED_BY_OBJECT, Allocator, Block, Segment, crash_point, round_up,
)
from plasma.mutex cimport lock_allocator, unlock_allocator

cdef extern from * nogil:
    int __builtin_ctz(unsigned int x) noexcept
    int __builtin_ctzll(unsigned long long x) noexcept
    int __builtin_clzll(unsigned long long x) noexcept

# How many blocks of the exact class are tried before the next class, where the first block surely fits.
cdef enum:
    EXACT_TRIES = 8
    TIGHT_TRIES = 1024


cdef inline uint32_t size_class(uint64_t size) noexcept nogil:
    """Class of a block: below 1 KiB one per 64 bytes, above sixteen per power of two."""
    cdef uint32_t msb
    if size < ALIGNMENT * SECOND_LEVELS:
        return <uint32_t>(size // ALIGNMENT)
    msb = 63 - __builtin_clzll(size)
    return (msb - 9) * SECOND_LEVELS + <uint32_t>((size >> (msb - 4)) & (SECOND_LEVELS - 1))


cdef uint32_t take_record(Segment* seg) noexcept nogil:
    cdef Allocator* a = seg.allocator
    cdef uint32_t b = a.record_free
    if b:
        a.record_free = seg.blocks[b].free_after
        return b
    if a.record_high + 1 >= seg.header.blocks_max:
        return 0
    a.record_high += 1
    return a.record_high


cdef inline void give_record(Segment* seg, uint32_t b) noexcept nogil:
    seg.blocks[b].size = 0
    seg.blocks[b].free_after = seg.allocator.record_free
    seg.allocator.record_free = b


cdef void list_free(Segment* seg, uint32_t b) noexcept nogil:
    cdef Allocator* a = seg.allocator
    cdef uint32_t cls = size_class(seg.blocks[b].size)
    cdef uint32_t first = cls // SECOND_LEVELS
    seg.blocks[b].used = 0
    seg.blocks[b].entry = 0
    seg.blocks[b].free_before = 0
    seg.blocks[b].free_after = a.heads[cls]
    if a.heads[cls]:
        seg.blocks[a.heads[cls]].free_before = b
    a.heads[cls] = b
    a.first_bitmap |= <uint64_t>1 << first
    a.second_bitmap[first] |= <uint32_t>1 << (cls % SECOND_LEVELS)


cdef void unlist_free(Segment* seg, uint32_t b) noexcept nogil:
    cdef Allocator* a = seg.allocator
    cdef Block* block = &seg.blocks[b]
    cdef uint32_t cls = size_class(block.size)
    cdef uint32_t first = cls // SECOND_LEVELS
    if block.free_before:
        seg.blocks[block.free_before].free_after = block.free_after
    else:
        a.heads[cls] = block.free_after
        if not block.free_after:
            a.second_bitmap[first] &= ~(<uint32_t>1 << (cls % SECOND_LEVELS))
            if not a.second_bitmap[first]:
                a.first_bitmap &= ~(<uint64_t>1 << first)
    if block.free_after:
        seg.blocks[block.free_after].free_before = block.free_before


cdef inline bint fits(const Block* block, uint64_t size, uint64_t alignment) noexcept nogil:
    return round_up(block.offset, alignment) - block.offset + size <= block.size


cdef uint32_t find_in_class(Segment* seg, uint32_t cls, uint64_t size, uint64_t alignment, uint32_t tries) noexcept nogil:
    cdef uint32_t b = seg.allocator.heads[cls]
    while b and tries:
        if fits(&seg.blocks[b], size, alignment):
            return b
        b = seg.blocks[b].free_after
        tries -= 1
    return 0


cdef uint32_t find_tight(Segment* seg, uint64_t size, uint64_t alignment) noexcept nogil:
    """The last resort, when there is no fresh memory either: the blocks that may or may not fit."""
    cdef uint32_t cls, b
    for cls in range(size_class(size), size_class(size + alignment - ALIGNMENT) + 1):
        b = find_in_class(seg, cls, size, alignment, TIGHT_TRIES)
        if b:
            return b
    return 0


cdef uint32_t find_free(Segment* seg, uint64_t size, uint64_t alignment) noexcept nogil:
    """A free block for `size` aligned bytes: of their exact class if one of its first few fits, else of the next class
    whose every block does."""
    cdef Allocator* a = seg.allocator
    cdef uint32_t cls, first
    cdef uint32_t b = find_in_class(seg, size_class(size), size, alignment, EXACT_TRIES)
    cdef uint32_t second
    cdef uint64_t firsts
    if b:
        return b
    cls = size_class(size + alignment - ALIGNMENT) + 1
    first = cls // SECOND_LEVELS
    if first >= FIRST_LEVELS:
        return 0
    second = a.second_bitmap[first] & (~<uint32_t>0 << (cls % SECOND_LEVELS))
    if not second:
        firsts = a.first_bitmap & (~<uint64_t>0 << (first + 1))
        if not firsts:
            return 0
        first = __builtin_ctzll(firsts)
        second = a.second_bitmap[first]
    return a.heads[first * SECOND_LEVELS + __builtin_ctz(second)]


cdef uint32_t insert_after(Segment* seg, uint32_t before, uint64_t offset, uint64_t size) noexcept nogil:
    """A new block record in memory order behind `before` (0: at the start). 0: no records left."""
    cdef uint32_t b = take_record(seg)
    cdef Block* block
    if not b:
        return 0
    block = &seg.blocks[b]
    block.offset = offset
    block.size = size
    block.used = 1
    block.entry = 0
    block.before = before
    block.after = seg.blocks[before].after if before else 0
    if before:
        seg.blocks[before].after = b
    if block.after:
        seg.blocks[block.after].before = b
    else:
        seg.allocator.last = b
    return b


cdef uint32_t carve(Segment* seg, uint32_t b, uint64_t size, uint64_t alignment) noexcept nogil:
    """Takes [aligned, aligned + size) out of the unlisted free block b; what is left before and behind stays free."""
    cdef Block* block = &seg.blocks[b]
    cdef uint64_t aligned = round_up(block.offset, alignment)
    cdef uint64_t gap = aligned - block.offset
    cdef uint64_t rest = block.size - gap - size
    cdef uint32_t body = b
    if gap:
        body = insert_after(seg, b, aligned, block.size - gap)
        if not body:
            list_free(seg, b)
            return 0
        block.size = gap
        list_free(seg, b)
        block = &seg.blocks[body]
    if rest:
        b = insert_after(seg, body, aligned + size, rest)
        if b:
            block.size = size
            list_free(seg, b)
    block.used = 1
    return body


cdef uint32_t extend(Segment* seg, uint64_t size, uint64_t alignment) noexcept nogil:
    """Takes fresh memory, together with the last block when that one is free."""
    cdef Allocator* a = seg.allocator
    cdef uint64_t start = a.fresh_at
    cdef uint64_t end
    cdef uint32_t last = a.last
    if last and not seg.blocks[last].used:
        start = seg.blocks[last].offset
    end = round_up(start, alignment) + size
    if end > seg.header.data_bytes or end < size:
        return 0
    if start != a.fresh_at:
        unlist_free(seg, last)
        seg.blocks[last].size = end - start
    else:
        last = insert_after(seg, last, start, end - start)
        if not last:
            return 0
    a.fresh_at = end
    return carve(seg, last, size, alignment)


cdef bint allocate(Segment* seg, uint64_t size, uint64_t alignment, uint32_t use, bint* fresh) noexcept nogil:
    """Takes `size` bytes (a multiple of 64) into the calling client's intent. False: no extent is large enough, or
    objects may not take more.

    Call it holding no lock. fresh: the memory has never been touched, populate it before copying.
    """
    cdef uint32_t b, taken = 0
    fresh[0] = False
    lock_allocator(seg)
    crash_point(seg, CRASH_CREATE_ALLOCATING)
    if use == USED_BY_OBJECT and seg.allocator.used_bytes - seg.allocator.channel_bytes + size > seg.header.objects_bytes:
        unlock_allocator(seg)
        return False
    b = find_free(seg, size, alignment)
    if not b:
        taken = extend(seg, size, alignment)
        fresh[0] = taken != 0
        if not taken:
            b = find_tight(seg, size, alignment)
    if b:
        unlist_free(seg, b)
        taken = carve(seg, b, size, alignment)
    b = taken
    if b:
        pl_invariant(seg.blocks[b].offset % alignment == 0 and seg.blocks[b].size >= size)
        pl_invariant(seg.slots[seg.slot].intent == 0)
        pl_count(seg.blocks_taken)
        seg.blocks[b].used = use
        seg.allocator.used_bytes += seg.blocks[b].size
        if use == USED_BY_CHANNEL:
            seg.allocator.channel_bytes += seg.blocks[b].size
        seg.allocator.allocations += 1
        seg.slots[seg.slot].intent_offset = seg.blocks[b].offset
        seg.slots[seg.slot].intent_bytes = seg.blocks[b].size
        seg.slots[seg.slot].intent = b
    crash_point(seg, CRASH_CREATE_ALLOCATED)
    unlock_allocator(seg)
    return b != 0


cdef void release_intent(Segment* seg, uint32_t slot) noexcept nogil:
    """Frees the block in a slot's intent (our own, or a dead client's whose liveness lock we hold)."""
    cdef Block* block
    cdef uint32_t b, neighbour
    lock_allocator(seg)
    b = seg.slots[slot].intent
    if b:
        block = &seg.blocks[b]
        pl_invariant(block.used and block.size > 0 and block.offset == seg.slots[slot].intent_offset)
        pl_count(seg.blocks_freed)
        seg.allocator.used_bytes -= block.size
        if block.used == USED_BY_CHANNEL:
            seg.allocator.channel_bytes -= block.size
        seg.allocator.frees += 1
        neighbour = block.after
        if neighbour and not seg.blocks[neighbour].used:
            unlist_free(seg, neighbour)
            block.size += seg.blocks[neighbour].size
            block.after = seg.blocks[neighbour].after
            if block.after:
                seg.blocks[block.after].before = b
            else:
                seg.allocator.last = b
            give_record(seg, neighbour)
        crash_point(seg, CRASH_DELETE_MERGING)
        neighbour = block.before
        if neighbour and not seg.blocks[neighbour].used:
            unlist_free(seg, neighbour)
            seg.blocks[neighbour].size += block.size
            seg.blocks[neighbour].after = block.after
            if block.after:
                seg.blocks[block.after].before = neighbour
            else:
                seg.allocator.last = neighbour
            give_record(seg, b)
            b = neighbour
        list_free(seg, b)
        seg.slots[slot].intent = 0
    unlock_allocator(seg)


# ---- rebuilding and checking (recovery.pyx and audit hold every lock) -----------------------------------------------


cdef void reset(Segment* seg) noexcept nogil:
    """An empty map: append_used() then adds the live extents in ascending order, leaving gaps free."""
    cdef Allocator* a = seg.allocator
    cdef uint32_t i
    a.record_free = 0
    a.record_high = 0
    a.last = 0
    a.fresh_at = 0
    a.used_bytes = 0
    a.channel_bytes = 0
    a.first_bitmap = 0
    for i in range(FIRST_LEVELS):
        a.second_bitmap[i] = 0
    for i in range(FIRST_LEVELS * SECOND_LEVELS):
        a.heads[i] = 0


cdef uint32_t append_used(Segment* seg, uint64_t offset, uint64_t size, uint32_t entry, uint32_t use) noexcept nogil:
    cdef Allocator* a = seg.allocator
    cdef uint32_t b
    if offset > a.fresh_at:
        b = insert_after(seg, a.last, a.fresh_at, offset - a.fresh_at)
        list_free(seg, b)
    b = insert_after(seg, a.last, offset, size)
    seg.blocks[b].entry = entry
    seg.blocks[b].used = use
    a.fresh_at = offset + size
    a.used_bytes += size
    if use == USED_BY_CHANNEL:
        a.channel_bytes += size
    return b


cdef uint64_t free_bytes(Segment* seg) noexcept nogil:
    """What objects may still take."""
    return seg.header.objects_bytes - (seg.allocator.used_bytes - seg.allocator.channel_bytes)


cdef uint64_t largest_free(Segment* seg) noexcept nogil:
    cdef Allocator* a = seg.allocator
    cdef uint64_t best = seg.header.data_bytes - a.fresh_at
    cdef uint32_t first, second, b
    if a.last and not seg.blocks[a.last].used:
        best += seg.blocks[a.last].size
    if a.first_bitmap:
        first = 63 - __builtin_clzll(a.first_bitmap)
        second = 63 - __builtin_clzll(a.second_bitmap[first])
        b = a.heads[first * SECOND_LEVELS + second]
        while b:
            if seg.blocks[b].size > best:
                best = seg.blocks[b].size
            b = seg.blocks[b].free_after
    return min(best, free_bytes(seg))


cdef const char* check_blocks(Segment* seg, uint64_t* used_bytes) noexcept nogil:
    """Walks the blocks in memory order: they tile [0, fresh_at), and two free ones never touch."""
    cdef Allocator* a = seg.allocator
    cdef uint64_t at = 0, used = 0
    cdef uint32_t b = a.last, steps = 0
    cdef bint after_free = False
    while b and seg.blocks[b].before:
        b = seg.blocks[b].before
        steps += 1
        if steps > a.record_high:
            return b"the chain of blocks is circular"
    while b:
        if seg.blocks[b].offset != at:
            return b"blocks leave a gap or overlap"
        if seg.blocks[b].size == 0 or seg.blocks[b].size % ALIGNMENT:
            return b"a block has an impossible size"
        if seg.blocks[b].used:
            used += seg.blocks[b].size
            after_free = False
        else:
            if after_free:
                return b"two neighbouring free blocks were not merged"
            after_free = True
        at += seg.blocks[b].size
        b = seg.blocks[b].after
    if at != a.fresh_at:
        return b"the blocks end before or behind the fresh memory"
    if used != a.used_bytes:
        return b"the count of used bytes is wrong"
    used_bytes[0] = used
    return NULL
