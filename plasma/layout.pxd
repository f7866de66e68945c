"""The memory format: every struct that lives in a segment, and nothing else. docs/plasma-format.md is its prose.

    | Header | Allocator | Shard x 16 | Slot x slots_max | buckets | Entry | Hold | Block |  page boundary  | data |

All links are indices or offsets, never pointers: each process maps the segment elsewhere. Index 0 means "none",
so freshly mapped (zero) memory is an empty structure, and a segment for a million objects costs only the pages it touches.

The truth is small: an Entry whose state is not FREE, a Hold whose entry is not 0, a Slot's state and intent.
Bucket chains, free lists, hold lists, totals, the LRU list and the free map are derived from it, and are rebuilt
from it after a death inside a critical section (recovery.pyx). Hence the one rule for writers: fill in first,
then commit the truth with a single store, then update what is derived.
"""
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LAYOUT_VERSION = 3
    PAGE = 4096
    ALIGNMENT = 64                  # a cache line, and the widest SIMD register
    MUTEX_BYTES = 64                # pthread_mutex_t is 40 bytes on x86-64, 48 on aarch64
    SHARD_COUNT = 16
    SHARD_MASK = 15
    NAME_BYTES = 32
    PATH_BYTES = 1024
    FIRST_LEVELS = 48               # size classes: powers of two ...
    OBJECTS_LIMIT = 1 << 26         # beyond it, indices of holds would outgrow 32 bits
    PLACE_BITS = 20                 # of Entry.file: a file of several objects is shorter than 64 MiB
    CHANNEL_RESERVE = 64 * 1024 * 1024  # data beyond what objects may take: messages flow when the store is full of objects
    SECOND_LEVELS = 16              # ... each split in sixteen, so that a good fit wastes at most 1/16

cdef enum BlockUse:
    UNUSED = 0
    USED_BY_OBJECT = 1
    USED_BY_CHANNEL = 2

# An object's state. lifecycle.pyx holds the essay and the table of transitions.
cdef enum ObjectState:
    FREE = 0
    PENDING = 1
    CREATED = 2
    SEALED = 3
    SPILLED = 4
    LOST = 5
    DELETED = 6
    FREED = 7                       # what state_of() calls a DELETED entry that says GIVEN_UP; no entry is in it

cdef enum EntryFlag:
    REFERENCED = 1                  # somebody took a reference once: freed with the last one, instead of evicted
    CHANNEL = 2                     # a message ring: not listed, mutable, never handed out as an object
    EXPOSED = 4                     # its creator saw a writable view: page-aligned, its pages are protected at the seal
    IN_LRU = 8
    FILLING = 16                    # SPILLED, or deleted meanwhile: `creator` is filling its block from its file
    GIVEN_UP = 64                   # DELETED on purpose while referenced: not to be made again
    UNREADABLE = 32                 # LOST because its file was missing or damaged
    KEPT = 128                      # derived: some hold on it is KEEPING
    RESIDENT = 256                  # never spilled

cdef enum HoldFlag:
    WATCHING = 1                    # ring the holder's bell when the object is sealed or lost
    DELETING = 2                    # the holder has taken on finishing this object's deletion
    KEEPING = 4                     # the holder, an agent, keeps the entry until it says otherwise
    UNNEEDED = 8                    # ... and is to be told that nobody here uses it any more: in its list of such
    PROMISING = 16                  # the holder promised the PENDING object, and holds nothing else: it keeps nothing

cdef enum Sweep:
    SWEPT = 0
    UNSWEPT = 1
    SWEEPING = 2

cdef enum SlotState:
    SLOT_FREE = 0
    SLOT_ACTIVE = 1
    SLOT_REAPING = 2

cdef enum WaitFlag:
    WAIT_WORK = 1                   # foreground, woken by WORK messages
    WAIT_CONTROL = 2                # foreground, woken by CONTROL messages and events
    WAIT_BACKGROUND = 4             # the background thread, woken by CONTROL messages and events when no other waits
    WAIT_POLL = 8                   # an event loop: wake by datagram
    WAIT_EVENT = 16                 # foreground, woken by events; all foreground waiters set it
    WAIT_FOREGROUND = 19            # the three of them

cdef enum Lane:
    LANE_CONTROL = 0
    LANE_WORK = 1
    LANES = 2

cdef struct Header:                 # one page
    uint64_t magic                  # written last by the creator: a segment without it is not ready
    uint32_t layout_version
    uint32_t mutex_size             # sizeof(pthread_mutex_t): equal only for builds that can share locks
    uint64_t segment_bytes
    uint64_t data_start             # page-aligned offset of the data region
    uint64_t data_bytes
    uint64_t objects_bytes          # the part of it that objects may take together; the rest is for channels
    uint64_t token_hi               # random: names the wake-up sockets
    uint64_t token_lo
    uint32_t entry_shift            # entries per shard = 1 << entry_shift
    uint32_t hold_shift
    uint32_t slots_max
    uint32_t blocks_max
    uint64_t shards_at
    uint64_t slots_at
    uint64_t buckets_at
    uint64_t entries_at
    uint64_t holds_at
    uint64_t blocks_at
    uint64_t allocator_at
    uint32_t objects_max
    uint32_t space_waiters          # a hint: some slot may wait for space (its space_wanted is the truth)
    uint32_t slot_free              # under clients_mutex: free list (derived) and high-water mark (truth)
    uint32_t slot_high
    uint64_t clients_ever
    uint64_t reaped_ever
    uint64_t repairs_ever
    char clients_mutex[MUTEX_BYTES]
    char name[NAME_BYTES]
    uint64_t files_ever             # the last number given to a spill file
    uint64_t spilled_ever           # objects that went to disk, and came back
    uint64_t restored_ever
    char spill_directory[PATH_BYTES]    # absolute; empty: nothing is spilled

cdef struct Block:                  # a stretch of the data region; blocks tile [0, fresh_at)
    uint64_t offset
    uint64_t size
    uint32_t before                 # neighbours in memory
    uint32_t after
    uint32_t free_before            # neighbours in the free list of the size class; `free_after` also links unused records
    uint32_t free_after
    uint32_t used                   # BlockUse
    uint32_t entry                  # the entry that owns it once committed; 0 while only an intent does

cdef struct Allocator:
    char mutex[MUTEX_BYTES]
    uint32_t dirty                  # somebody died inside: rebuild before use
    uint32_t record_free            # free list and high-water mark of block records
    uint32_t record_high
    uint32_t last                   # the block that ends at fresh_at
    uint64_t fresh_at               # data from here on has never been used (cold pages)
    uint64_t used_bytes
    uint64_t channel_bytes          # of these, in channels
    uint64_t first_bitmap
    uint32_t second_bitmap[FIRST_LEVELS]
    uint32_t heads[FIRST_LEVELS * SECOND_LEVELS]
    uint64_t allocations
    uint64_t frees
    uint64_t rebuilds

cdef struct Shard:                  # a self-contained part of the table, under one lock
    char mutex[MUTEX_BYTES]
    uint32_t entry_free
    uint32_t entry_high
    uint32_t entries_used
    uint32_t hold_free
    uint32_t hold_high
    uint32_t holds_used
    uint32_t lru_newest
    uint32_t lru_oldest
    uint64_t evictions
    uint64_t repairs
    uint32_t unswept                # Sweep: some entry may be kept by nobody and not freed yet (a lock owner died in here)
    char pad[76]

cdef struct Entry:                  # two cache lines
    uint64_t id_hi
    uint64_t id_lo
    uint32_t state                  # truth; written last
    uint32_t flags
    uint32_t next_in_bucket
    uint32_t block                  # 0: owns no memory
    uint64_t offset                 # into the data region
    uint64_t size_bytes             # what the user asked for
    uint64_t allocated_bytes        # rounded, with the contained list behind the data
    uint64_t owner                  # address of the client that promised it (PENDING) or for whom it was made
    uint64_t creator                # address of the client that writes it (CREATED) or fills it from disk (FILLING)
    uint32_t contained_count        # references that this object holds on others; items behind its data
    uint32_t pins                   # derived: sum over holds
    uint32_t refs                   # derived: sum over holds
    uint32_t holders                # derived: first hold of a client
    uint32_t parents                # derived: first hold of an object that contains this one
    uint32_t lru_newer
    uint32_t lru_older
    uint32_t collecting             # chain of entries whose deletion this process finishes (private to it)
    uint64_t used_at_ns
    uint64_t given_to               # the client whose reference create made: an abort takes it back
    uint64_t file                   # its copy on disk: number of the file << PLACE_BITS | place in it / 64; 0: none

cdef struct Hold:                   # the ledger: who keeps what, and how often
    uint32_t entry                  # truth; 0: unused
    uint32_t slot                   # the holding client, or 0 when an object holds
    uint32_t parent                 # the holding object's entry
    uint32_t pins
    uint32_t refs
    uint16_t flags
    uint16_t waits                  # threads of the client that sleep until the object is sealed or lost
    uint32_t next_of_entry
    uint32_t prev_of_entry
    uint32_t next_of_slot
    uint32_t prev_of_slot

cdef struct Contained:              # behind the data of an object that holds references
    uint64_t id_hi
    uint64_t id_lo
    uint32_t hold                   # a hint: the parent hold, verified before use
    uint32_t pad

cdef struct Slot:                   # a client: its bell, its ledger, its intent. The liveness lock is on byte `index` (posix.h)
    uint32_t state
    uint32_t generation
    uint32_t pid                    # for people and inspect; liveness never depends on it
    uint32_t next_free
    uint64_t joined_at_ns
    uint64_t address
    uint32_t intent                 # a block in nobody's entry yet, or no longer: freed by the reaper
    uint32_t space_wanted           # threads of the client that wait for space
    uint64_t intent_offset          # the same block once more: its record may be half merged when its owner dies
    uint64_t intent_bytes
    uint64_t file_intent            # a file that is in no entry any more: removed by this client, or its reaper
    # -- second cache line: the bell
    uint32_t bell                   # foreground futex word; every event adds one
    uint32_t bell_background
    uint32_t waiting                # WaitFlags
    uint32_t inbox                  # counts channels opened to this client or closed: it looks at its list when this moves
    uint32_t channels               # head of its holds on channels, under shard 0's lock
    uint32_t news                   # bit s: `unneeded` of shard s may not be empty. Changed under that shard's lock
    char pad_bell[40]
    # -- third: heads of this client's holds, one list a shard
    uint32_t holds[SHARD_COUNT]
    # -- fourth: and of those that are UNNEEDED, which are in no other list
    uint32_t unneeded[SHARD_COUNT]
    # -- fifth: for people
    char name[NAME_BYTES]
    uint64_t files_next             # [files_next, files_end): files made for spilling and in no entry yet
    uint64_t files_end
    uint32_t agent                  # acts for somebody outside the segment: what it holds is no use of an object
    char pad_name[12]

cdef struct RingHeader:             # at the start of a CHANNEL object's data; positions only grow
    uint64_t head                   # consumer: everything before is taken
    char pad_head[56]
    uint64_t tail                   # producer: everything before is published
    char pad_tail[56]
    uint64_t capacity               # bytes of the ring behind this header: a power of two
    uint64_t sender
    uint64_t receiver
    uint32_t lane
    uint32_t pad_lane
    uint32_t closed                 # an end has died or left
    uint32_t sender_waits           # the producer found it full: ring its bell when half is free
    char pad_end[24]

cdef struct Record:                 # before each message, at a multiple of 16
    uint32_t size                   # payload bytes
    uint32_t state                  # RecordState

cdef enum RecordState:
    RECORD_READY = 1
    RECORD_TAKEN = 2
    RECORD_REVOKED = 3
    RECORD_PADDING = 4              # the rest of the lap: the next record didn't fit before the end

# Labelled steps at which the crash tests kill a process. The check is one predictable load of process-private
# memory, so the binary that users run is the binary that the crash tests attack.
cdef enum CrashPoint:
    CRASH_NONE = 0
    CRASH_CREATE_ALLOCATING
    CRASH_CREATE_ALLOCATED
    CRASH_CREATE_FILLED
    CRASH_CREATE_HELD
    CRASH_CREATE_COMMITTED
    CRASH_CREATE_LINKED
    CRASH_CREATE_CONTAINING
    CRASH_CREATE_CONTAINED
    CRASH_WRITE
    CRASH_SEAL_LOCKED
    CRASH_SEAL_COMMITTED
    CRASH_SEAL_RANG
    CRASH_GET_LOCKED
    CRASH_GET_HELD
    CRASH_GET_PINNED
    CRASH_RELEASE_LOCKED
    CRASH_RELEASE_UNPINNED
    CRASH_RELEASE_UNHELD
    CRASH_DELETE_MARKED
    CRASH_DELETE_CASCADING
    CRASH_DELETE_INTENT
    CRASH_DELETE_FREED
    CRASH_DELETE_MERGING
    CRASH_DELETE_DONE
    CRASH_SPILL_NUMBERED
    CRASH_SPILL_WRITING
    CRASH_SPILL_WRITTEN
    CRASH_SPILL_LOCKED
    CRASH_SPILL_INTENT
    CRASH_SPILL_COMMITTED
    CRASH_SPILL_FREED
    CRASH_RESTORE_ALLOCATED
    CRASH_RESTORE_CLAIMED
    CRASH_RESTORE_READ
    CRASH_RESTORE_COMMITTED
    CRASH_RESTORE_LOST
    CRASH_RESTORE_DROPPED
    CRASH_DELETE_FILE
    CRASH_SEND_CLAIMED
    CRASH_SEND_WRITTEN
    CRASH_SEND_PUBLISHED
    CRASH_RECEIVE_TAKEN
    CRASH_RECEIVE_COPIED
    CRASH_RECEIVE_ADVANCED
    CRASH_CHANNEL_CREATED
    CRASH_CHANNEL_ANNOUNCED
    CRASH_KEEP_HELD
    CRASH_KEEP_KEPT
    CRASH_UNNEEDED_TOLD
    CRASH_UNNEEDED_LISTED
    CRASH_UNNEEDED_TAKEN
    CRASH_UNKEEP_UNMARKED
    CRASH_DROP_CLAIMED
    CRASH_REAP_MARKED
    CRASH_REAP_DROPPING
    CRASH_REAP_DROPPED
    CRASH_POINTS

# What the clients that a process has in one mapping of a segment have in common. Never shared.
cdef struct Common:
    int liveness_fd                 # holds the liveness locks of all of them
    int disk_fd                     # the spill directory; -1 until needed
    int bell_fd                     # unbound socket for waking event loops; -1 until needed
    char* mine                      # by slot: 1 if it is one of theirs, whose lock is no proof of death

# One client's view of a segment: where its parts are mapped here, and who it is. Never shared.
cdef struct Segment:
    char* base                      # writable mapping of the whole segment
    char* data                      # its data region: written between create and seal only
    const char* data_sealed         # the PROT_READ mapping that every get is served from
    Header* header
    Allocator* allocator
    Shard* shards
    Slot* slots
    uint32_t* buckets
    Entry* entries
    Hold* holds
    Block* blocks
    uint32_t entry_shift
    uint32_t hold_shift
    Common* common
    uint32_t slot                   # this client's; 0: none
    uint64_t address
    uint32_t crash_point
    uint32_t crash_countdown
    int crash_signal
    uint64_t pins_made              # the counters of a PLASMA_DEBUG build
    uint64_t pins_dropped
    uint64_t blocks_taken
    uint64_t blocks_freed
    # Repairs live in recovery.pyx, above the structures that they repair; the locks below call them through these.
    void (*repair_shard)(Segment*, uint32_t) noexcept nogil
    void (*repair_clients)(Segment*) noexcept nogil
    void (*rebuild_allocator)(Segment*) noexcept nogil

cdef void crash(Segment* seg) noexcept nogil

cdef inline void crash_point(Segment* seg, uint32_t point) noexcept nogil:
    if seg.crash_point == point:
        crash(seg)

cdef inline uint64_t round_up(uint64_t n, uint64_t unit) noexcept nogil:
    return (n + unit - 1) & ~(unit - 1)

cdef inline uint32_t shard_of_entry(const Segment* seg, uint32_t entry) noexcept nogil:
    return entry >> seg.entry_shift

cdef inline uint64_t mix_id(uint64_t hi, uint64_t lo) noexcept nogil:
    # splitmix64's finaliser: ids are a random prefix and a counter, which alone would all fall into few buckets
    cdef uint64_t x = lo ^ (hi * <uint64_t>0x9E3779B97F4A7C15)
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)

cdef inline uint32_t shard_of_id(uint64_t hi, uint64_t lo) noexcept nogil:
    return <uint32_t>(mix_id(hi, lo) & SHARD_MASK)

cdef inline uint64_t contained_at(const Entry* entry) noexcept nogil:
    """Offset in the data region of an object's list of contained references."""
    return entry.offset + round_up(entry.size_bytes, 16)

cdef bint bind_segment(Segment* seg, char* base, const char* sealed) noexcept nogil
cdef uint64_t plan(Header* header, uint64_t data_bytes, uint64_t objects_max, uint32_t slots_max) noexcept nogil
cdef const char* check_header(const Header* header, uint64_t file_bytes) noexcept nogil
cdef void publish(Header* header) noexcept nogil
