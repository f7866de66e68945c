"""The memory format's arithmetic: where the parts of a segment lie, and whether some bytes are a segment at all."""

cdef extern from "signal.h" nogil:
    int raise_ "raise" (int signal) noexcept

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "pthread.h":
    ctypedef struct pthread_mutex_t:
        pass

# "plasma" and a byte that keeps text files out, read as a little-endian number. A big-endian machine sees another number, rightly.
cdef uint64_t MAGIC = 0x01616D73616C7089

assert sizeof(Header) <= PAGE
assert sizeof(Shard) == 192
assert sizeof(Entry) == 128
assert sizeof(Hold) == 40
assert sizeof(Block) == 40
assert sizeof(Slot) == 320
assert sizeof(Contained) == 24
assert sizeof(RingHeader) == 192
assert sizeof(Record) == 8
assert sizeof(pthread_mutex_t) <= MUTEX_BYTES

SIZES = {
    "Header": sizeof(Header), "Allocator": sizeof(Allocator), "Shard": sizeof(Shard), "Slot": sizeof(Slot),
    "Entry": sizeof(Entry), "Hold": sizeof(Hold), "Block": sizeof(Block), "RingHeader": sizeof(RingHeader),
}
VERSION = LAYOUT_VERSION
STATE_NAMES = ("free", "pending", "created", "sealed", "spilled", "lost", "deleted", "freed")


cdef void crash(Segment* seg) noexcept nogil:
    if seg.crash_countdown > 1:
        seg.crash_countdown -= 1
        return
    raise_(seg.crash_signal)


cdef uint64_t plan(Header* header, uint64_t data_bytes, uint64_t objects_max, uint32_t slots_max) noexcept nogil:
    """Fills in the geometry of a segment and returns its size in bytes. Pure arithmetic.

    Ids spread over the shards evenly but not exactly: a quarter of slack and 32 more makes it safe to promise
    objects_max (for 1 000 000 objects a shard expects 62 500 with a standard deviation of 242).
    """
    cdef uint64_t each = (objects_max + objects_max // 4) // SHARD_COUNT + 32
    cdef uint32_t shift = 6
    while (<uint64_t>1 << shift) <= each:
        shift += 1
    cdef uint64_t entries = <uint64_t>SHARD_COUNT << shift
    memset(header, 0, sizeof(Header))
    header.layout_version = LAYOUT_VERSION
    header.mutex_size = sizeof(pthread_mutex_t)
    header.entry_shift = shift
    header.hold_shift = shift + 2        # four holders an object on average; usually there are one or two
    header.objects_max = <uint32_t>objects_max
    header.slots_max = slots_max + 1     # slot 0 means "an object"
    header.blocks_max = <uint32_t>(2 * entries + 64)
    cdef uint64_t at = PAGE
    header.allocator_at = at
    at = round_up(at + sizeof(Allocator), PAGE)
    header.shards_at = at
    at = round_up(at + SHARD_COUNT * sizeof(Shard), PAGE)
    header.slots_at = at
    at = round_up(at + header.slots_max * sizeof(Slot), PAGE)
    header.buckets_at = at
    at = round_up(at + entries * sizeof(uint32_t), PAGE)
    header.entries_at = at
    at = round_up(at + entries * sizeof(Entry), PAGE)
    header.holds_at = at
    at = round_up(at + (<uint64_t>SHARD_COUNT << header.hold_shift) * sizeof(Hold), PAGE)
    header.blocks_at = at
    at = round_up(at + <uint64_t>header.blocks_max * sizeof(Block), PAGE)
    header.data_start = at
    header.objects_bytes = round_up(data_bytes, PAGE)
    header.data_bytes = header.objects_bytes + CHANNEL_RESERVE
    header.segment_bytes = at + header.data_bytes
    return header.segment_bytes


cdef const char* check_header(const Header* header, uint64_t file_bytes) noexcept nogil:
    """NULL when the header describes a segment that this build can attach to, else what is wrong with it.

    Every number that is used as a size or an offset later is recomputed from the geometry and compared: a forged
    or damaged header must not lead outside the mapping.
    """
    cdef Header expected
    if header.magic != MAGIC:
        return b"it doesn't begin with plasma's magic number"
    if header.layout_version != LAYOUT_VERSION:
        return b"version"
    if header.mutex_size != sizeof(pthread_mutex_t):
        return b"it was made by a build with other lock sizes (another C library or processor)"
    if header.spill_directory[PATH_BYTES - 1]:
        return b"its header is damaged (a path without end)"
    if header.segment_bytes != file_bytes:
        return b"its size differs from the one in its header (truncated?)"
    if (not 0 < header.objects_max <= OBJECTS_LIMIT or not 2 <= header.slots_max <= 65536
            or header.objects_bytes > file_bytes):
        return b"its header is damaged (impossible geometry)"
    plan(&expected, header.objects_bytes, header.objects_max, header.slots_max - 1)
    if (expected.segment_bytes != header.segment_bytes or expected.objects_bytes != header.objects_bytes
            or expected.data_bytes != header.data_bytes or expected.data_start != header.data_start
            or expected.entry_shift != header.entry_shift or expected.hold_shift != header.hold_shift
            or expected.blocks_max != header.blocks_max or expected.shards_at != header.shards_at
            or expected.slots_at != header.slots_at or expected.buckets_at != header.buckets_at
            or expected.entries_at != header.entries_at or expected.holds_at != header.holds_at
            or expected.blocks_at != header.blocks_at or expected.allocator_at != header.allocator_at):
        return b"its header is damaged (offsets don't match its geometry)"
    return NULL


cdef bint bind_segment(Segment* seg, char* base, const char* sealed) noexcept nogil:
    """Points a process's view at a mapped segment whose header has been checked (or just planned)."""
    cdef Header* header = <Header*>base
    seg.base = base
    seg.header = header
    seg.data = base + header.data_start
    seg.data_sealed = sealed
    seg.allocator = <Allocator*>(base + header.allocator_at)
    seg.shards = <Shard*>(base + header.shards_at)
    seg.slots = <Slot*>(base + header.slots_at)
    seg.buckets = <uint32_t*>(base + header.buckets_at)
    seg.entries = <Entry*>(base + header.entries_at)
    seg.holds = <Hold*>(base + header.holds_at)
    seg.blocks = <Block*>(base + header.blocks_at)
    seg.entry_shift = header.entry_shift
    seg.hold_shift = header.hold_shift
    return True


cdef void publish(Header* header) noexcept nogil:
    header.magic = MAGIC
