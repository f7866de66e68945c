import os

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset, strncpy
from plasma._c.posix cimport pl_memory_file, pl_mutex_init, pl_seal_size, pl_warm_from, pl_warm_stop
from plasma.layout cimport (
    CHANNEL_RESERVE, LAYOUT_VERSION, NAME_BYTES, OBJECTS_LIMIT, PAGE, PATH_BYTES, SHARD_COUNT, Header, Segment, bind_segment,
    check_header, plan, publish,
)

from plasma.errors import LayoutVersionError, NotAStoreError

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void* addr, size_t length)
    int mprotect(void* addr, size_t length, int prot)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_NORESERVE
    void* MAP_FAILED

cdef extern from "fcntl.h" nogil:
    int fallocate(int fd, int mode, long offset, long length)
    int FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE

cdef extern from "unistd.h" nogil:
    int close(int fd) noexcept
    int getpid() noexcept

cdef enum:
    SLOTS_LIMIT = 65535                  # an address keeps the slot in 16 bits


def default_size_bytes():
    """30 % of the machine's memory (what Ray reserves too), at least 64 MiB. Untouched pages cost nothing."""
    cdef uint64_t total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(64 << 20, total * 3 // 10)


cdef class Arena:
    def __cinit__(self):
        self.fd = -1
        memset(&self.seg, 0, sizeof(Segment))
        self.common = Common(-1, -1, -1, NULL)
        self.seg.common = &self.common

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        """Unmaps the segment and closes its descriptors. Nothing may point into it any more."""
        pl_warm_stop(&self.warmer, self.owner_pid == getpid())
        if self.common.bell_fd >= 0:
            close(self.common.bell_fd)
        if self.common.disk_fd >= 0:
            close(self.common.disk_fd)
        self.common = Common(-1, -1, -1, NULL)
        if self.seg.base != NULL:
            munmap(self.seg.base, self.size_bytes)
            self.seg.base = NULL
        if self.sealed_map != NULL:
            munmap(self.sealed_map, self.sealed_bytes)
            self.sealed_map = NULL
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    @staticmethod
    def create(data_bytes, objects_max, clients_max, bytes name, bytes spill_directory=b""):
        """A new, empty segment of this process's own.

        Raises ValueError for impossible sizes, MemoryError when the kernel refuses the mapping.
        """
        cdef Arena arena = Arena.__new__(Arena)
        cdef Header header
        cdef uint32_t i
        if not 4096 <= data_bytes <= 1 << 46:
            raise ValueError(f"size_bytes must lie between 4 KiB and 64 TiB, got {data_bytes}")
        if not 1 <= objects_max <= OBJECTS_LIMIT:
            raise ValueError(f"max_objects must lie between 1 and {OBJECTS_LIMIT}, got {objects_max}")
        if not 1 <= clients_max < SLOTS_LIMIT:
            raise ValueError(f"max_clients must lie between 1 and {SLOTS_LIMIT - 1}, got {clients_max}")
        if len(spill_directory) >= PATH_BYTES or b"\0" in spill_directory:
            raise ValueError(f"spill_directory must be shorter than {PATH_BYTES} bytes, got {len(spill_directory)}")
        arena.size_bytes = plan(&header, data_bytes, objects_max, clients_max)
        arena.fd = pl_memory_file(b"plasma")
        if arena.fd < 0:
            raise OSError("the kernel gives no memory file (memfd_create and /dev/shm both refused)")
        os.ftruncate(arena.fd, arena.size_bytes)
        pl_seal_size(arena.fd)
        token = os.urandom(16)
        memcpy(&header.token_hi, <const char*>token, 8)
        memcpy(&header.token_lo, <const char*>token + 8, 8)
        strncpy(header.name, name, NAME_BYTES - 1)
        strncpy(header.spill_directory, spill_directory, PATH_BYTES - 1)
        arena._map(header.data_start)
        memcpy(arena.seg.base, &header, sizeof(Header))
        bind_segment(&arena.seg, arena.seg.base, <const char*>arena.sealed_map)
        if pl_mutex_init(arena.seg.header.clients_mutex) or pl_mutex_init(arena.seg.allocator.mutex):
            raise OSError("this C library has no robust process-shared mutexes")
        for i in range(SHARD_COUNT):
            pl_mutex_init(arena.seg.shards[i].mutex)
        publish(arena.seg.header)
        return arena

    @staticmethod
    def attach(fd):
        """Maps somebody else's segment. The descriptor is duplicated.

        Raises NotAStoreError (or its LayoutVersionError) when it isn't one: the header is checked before any of it
        is used.
        """
        cdef Arena arena = Arena.__new__(Arena)
        cdef Header header
        cdef const char* wrong
        try:
            size = os.fstat(fd).st_size
            head = os.pread(fd, sizeof(Header), 0)
        except OSError as error:
            raise NotAStoreError(f"descriptor {fd} can't be read as a plasma segment: {error}") from None
        if len(head) < <int>sizeof(Header):
            raise NotAStoreError(f"descriptor {fd} holds {size} bytes, less than a segment's header")
        memcpy(&header, <const char*>head, sizeof(Header))
        wrong = check_header(&header, size)
        if wrong != NULL:
            if wrong == b"version":
                raise LayoutVersionError(
                    f"the segment has layout version {header.layout_version}, this build of plasma speaks "
                    f"{LAYOUT_VERSION}; use the same version of the package on both sides"
                )
            raise NotAStoreError(f"descriptor {fd} is not a plasma segment: {(<bytes>wrong).decode()}")
        arena.fd = os.dup(fd)
        arena.size_bytes = size
        arena._map(header.data_start)
        bind_segment(&arena.seg, arena.seg.base, <const char*>arena.sealed_map)
        return arena

    def _map(self, data_start):
        cdef void* at = mmap(NULL, self.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, self.fd, 0)
        if at == MAP_FAILED:
            raise MemoryError(f"can't map a segment of {self.size_bytes} bytes (address space limit?)")
        self.seg.base = <char*>at
        at = mmap(NULL, self.size_bytes - data_start, PROT_READ, MAP_SHARED | MAP_NORESERVE, self.fd, data_start)
        if at == MAP_FAILED:
            raise MemoryError(f"can't map a segment's {self.size_bytes - data_start} bytes a second time")
        self.sealed_map = at
        self.sealed_bytes = self.size_bytes - data_start
        self.objects_bytes = self.sealed_bytes - CHANNEL_RESERVE

    cdef void warm_ahead(self) noexcept:
        """A large object was just placed in fresh memory: another will probably follow."""
        self.owner_pid = getpid()
        pl_warm_from(&self.warmer, self.seg.data, self.sealed_bytes, self.seg.allocator.fresh_at)

    cdef bint protect(self, uint64_t offset, uint64_t size, bint readonly) noexcept:
        """Write-protects (or opens again) whole pages of the writable mapping, in this process: after a seal its
        creator still has a view there. Best effort: the kernel limits the number of mappings (docs/caveats.md)."""
        if mprotect(self.seg.data + offset, size, PROT_READ if readonly else PROT_READ | PROT_WRITE) == 0:
            return True
        # Opening these pages would split a mapping beyond the limit. They will be somebody's next object, so they
        # must open: opening everything only merges mappings, and gives up protection that was an extra.
        return not readonly and mprotect(self.seg.base, self.size_bytes, PROT_READ | PROT_WRITE) == 0

    cdef int give_back(self, uint64_t offset, uint64_t size) noexcept:
        """Returns the pages of a free stretch to the kernel. Reading them gives zeros again."""
        return fallocate(self.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         <long>(self.seg.header.data_start + offset), <long>size)
