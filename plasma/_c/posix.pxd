# extern declarations of the C helpers: no logic here.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    uint32_t load32(const uint32_t* p) noexcept
    uint64_t load64(const uint64_t* p) noexcept
    void store32(uint32_t* p, uint32_t v) noexcept
    void store64(uint64_t* p, uint64_t v) noexcept
    uint32_t add32(uint32_t* p, uint32_t v) noexcept
    uint64_t add64(uint64_t* p, uint64_t v) noexcept
    uint32_t or32(uint32_t* p, uint32_t v) noexcept
    uint32_t and32(uint32_t* p, uint32_t v) noexcept
    uint32_t exchange32(uint32_t* p, uint32_t v) noexcept
    bint cas32(uint32_t* p, uint32_t expected, uint32_t desired) noexcept
    void full_fence() noexcept
    void cpu_relax() noexcept

cdef extern from "posix.h" nogil:
    int pl_memory_file(const char* name) noexcept
    void pl_seal_size(int fd) noexcept
    int pl_mutex_init(void* at) noexcept
    int pl_mutex_lock(void* at) noexcept
    void pl_mutex_repaired(void* at) noexcept
    void pl_mutex_unlock(void* at) noexcept
    int pl_futex_wait(uint32_t* word, uint32_t expected, int64_t timeout_ns) noexcept
    void pl_futex_wake_all(uint32_t* word) noexcept
    int pl_reopen(int fd) noexcept
    int pl_liveness_take(int fd, uint32_t slot) noexcept
    void pl_liveness_drop(int fd, uint32_t slot) noexcept
    uint64_t pl_now_coarse_ns() noexcept
    int64_t pl_now_ns() noexcept
    int pl_bell_socket(uint64_t token_hi, uint64_t token_lo, uint64_t address) noexcept
    void pl_bell_send(int fd, uint64_t token_hi, uint64_t token_lo, uint64_t address) noexcept
    void pl_bell_drain(int fd) noexcept
    void pl_fork_watch() noexcept
    uint32_t pl_fork_depth() noexcept
    void pl_close_in_children(int fd, int yes) noexcept
    int pl_open_directory(const char* path) noexcept
    void pl_remove_numbered(int directory_fd, uint64_t number) noexcept

cdef extern from "copying.h" nogil:
    void pl_populate(char* start, uint64_t size) noexcept
    void pl_copy(char* to, const char* source, uint64_t size, int populate) noexcept

cdef extern from "warmer.h" nogil:
    ctypedef struct pl_warmer:
        int running
    void pl_warm_from(pl_warmer* warmer, char* data, uint64_t size, uint64_t fresh_at) noexcept
    void pl_warm_stop(pl_warmer* warmer, int alive) noexcept

cdef extern from "debug.h" nogil:
    bint PL_DEBUG
    void pl_invariant(bint condition) noexcept
    void pl_count(uint64_t counter) noexcept
