/* The operating system as plasma uses it: anonymous memory files, robust process-shared mutexes,
 * futexes, open-file-description locks and wake-up datagrams. Thin, so that what each costs is plain. */
#ifndef PLASMA_POSIX_H
#define PLASMA_POSIX_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* ---- memory files -------------------------------------------------------------------------- */

/* memfd: nothing stays in /dev/shm after a crash, and a container's 64 MB /dev/shm does not matter.
 * A kernel without memfd (gVisor builds, seccomp filters) gets an unlinked POSIX segment instead. */
static inline int pl_memory_file(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0) return fd;
    char path[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(path, sizeof path, "/dev/shm/plasma-%d-%ld", (int)getpid(), now.tv_nsec);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) unlink(path);
    return fd;
}

/* Sealed against shrinking: a truncated mapping would turn every reader's access into SIGBUS. */
static inline void pl_seal_size(int fd) { (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }

/* ---- robust mutex -------------------------------------------------------------------------- */

static inline int pl_mutex_init(void *at) {
    pthread_mutexattr_t attr;
    if (pthread_mutexattr_init(&attr)) return -1;
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    int rc = pthread_mutex_init((pthread_mutex_t *)at, &attr);
    pthread_mutexattr_destroy(&attr);
    return rc;
}

/* A dead owner is noticed; one that is stopped looks like one that is slow, so after a while somebody must be told. */
#define PL_LOCK_EXPLAIN_S 5
static __attribute__((noinline, cold, unused)) int pl_mutex_sleep(pthread_mutex_t *m) {
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PL_LOCK_EXPLAIN_S;
        int rc = pthread_mutex_timedlock(m, &until);
        if (rc != ETIMEDOUT) return rc;
        uint32_t owner; /* a robust mutex begins with the futex that the kernel looks at when its owner dies */
        memcpy(&owner, m, sizeof owner);
        fprintf(stderr,
                "plasma: process %d has waited %d s for a lock of the store that thread %u holds. If that is stopped "
                "(state T in ps), let it go on with kill -CONT, or end it with kill -KILL: the lock is repaired then.\n",
                (int)getpid(), PL_LOCK_EXPLAIN_S, owner & FUTEX_TID_MASK);
    }
}

/* 0: held. 1: held, but the previous owner died inside: repair, then pl_mutex_repaired(). -1: broken.
 * Critical sections last some hundred nanoseconds, so a short spin usually beats a futex sleep. */
static inline int pl_mutex_lock(void *at) {
    pthread_mutex_t *m = (pthread_mutex_t *)at;
    int rc = EBUSY;
    for (int i = 0; i < 64 && rc == EBUSY; i++) {
        rc = pthread_mutex_trylock(m);
        if (rc == EBUSY)
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            __asm__ __volatile__("");
#endif
    }
    if (rc == EBUSY) rc = pl_mutex_sleep(m);
    if (rc == 0) return 0;
    return rc == EOWNERDEAD ? 1 : -1;
}
static inline void pl_mutex_repaired(void *at) { pthread_mutex_consistent((pthread_mutex_t *)at); }
static inline void pl_mutex_unlock(void *at) { pthread_mutex_unlock((pthread_mutex_t *)at); }

/* ---- futex --------------------------------------------------------------------------------- */

/* Sleeps while *word == expected. timeout_ns < 0: for ever. Returns 0 when woken or the word had
 * changed, ETIMEDOUT, or EINTR (the caller looks at its signals). */
static inline int pl_futex_wait(uint32_t *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec ts, *tp = NULL;
    if (timeout_ns >= 0) {
        ts.tv_sec = timeout_ns / 1000000000LL;
        ts.tv_nsec = timeout_ns % 1000000000LL;
        tp = &ts;
    }
    long rc = syscall(SYS_futex, word, FUTEX_WAIT, expected, tp, NULL, 0);
    if (rc == 0) return 0;
    return errno == EAGAIN ? 0 : errno;
}
static inline void pl_futex_wake_all(uint32_t *word) { (void)syscall(SYS_futex, word, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0); }

/* ---- liveness locks ------------------------------------------------------------------------ */

/* A client holds an open-file-description lock on one byte far beyond the segment's end, through a
 * descriptor of its own (opened anew, so that it shares no description with other clients). The
 * kernel drops it when the process is gone, however it went: no pid, hence no pid-reuse race, and
 * it works across pid namespaces. */
#define PL_LOCK_BASE ((off_t)1 << 50)
static inline int pl_reopen(int fd) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}
static inline int pl_liveness_take(int fd, uint32_t slot) { /* 0 taken, -1 somebody lives there */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PL_LOCK_BASE + slot, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -1;
}
static inline void pl_liveness_drop(int fd, uint32_t slot) {
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = PL_LOCK_BASE + slot, .l_len = 1};
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

/* ---- spill files ---------------------------------------------------------------------------- */

/* A spill file's name is its number. Removing one that is gone already does no harm. */
static inline int pl_open_directory(const char *path) { return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
static inline void pl_remove_numbered(int directory_fd, uint64_t number) {
    char name[24];
    snprintf(name, sizeof name, "%llu", (unsigned long long)number);
    (void)unlinkat(directory_fd, name, 0);
}

/* ---- clocks -------------------------------------------------------------------------------- */

static inline uint64_t pl_now_coarse_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}
static inline int64_t pl_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* ---- wake-up datagrams for event loops ------------------------------------------------------ */

/* The name is abstract (no file is left behind) and carries the segment's random token. Anybody who
 * finds it can at most cause a spurious wake-up: the datagram's content is never looked at. */
static inline socklen_t pl_bell_name(struct sockaddr_un *name, uint64_t token_hi, uint64_t token_lo, uint64_t address) {
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    int n = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "plasma-%016llx%016llx-%llx",
                     (unsigned long long)token_hi, (unsigned long long)token_lo, (unsigned long long)address);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}
static inline int pl_bell_socket(uint64_t token_hi, uint64_t token_lo, uint64_t address) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !address) return fd;
    struct sockaddr_un name;
    socklen_t len = pl_bell_name(&name, token_hi, token_lo, address);
    if (bind(fd, (struct sockaddr *)&name, len)) {
        close(fd);
        return -1;
    }
    return fd;
}
static inline void pl_bell_send(int fd, uint64_t token_hi, uint64_t token_lo, uint64_t address) {
    struct sockaddr_un name;
    socklen_t len = pl_bell_name(&name, token_hi, token_lo, address);
    (void)sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&name, len);
}
#define PL_RINGS_AT_ONCE 8

static inline void pl_bell_drain(int fd) {
    char scratch[8];
    struct iovec place = {scratch, sizeof scratch};
    struct mmsghdr rings[PL_RINGS_AT_ONCE] = {0};
    for (int i = 0; i < PL_RINGS_AT_ONCE; i++) {
        rings[i].msg_hdr.msg_iov = &place; /* nobody reads what was written */
        rings[i].msg_hdr.msg_iovlen = 1;
    }
    /* One call takes them all, and does not make another one to find out that it has. */
    while (recvmmsg(fd, rings, PL_RINGS_AT_ONCE, MSG_DONTWAIT, NULL) == PL_RINGS_AT_ONCE) {
    }
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* Counts the forks between the process that loaded this module and the calling one: a client made
 * at one count is not the caller's at another. A comparison instead of a getpid() per operation. */
static uint32_t pl_fork_depth_;

/* A child's copies of the liveness descriptors are closed at once: while one is open, the parent's slot
 * looks alive though the parent may be dead. In C, because a library may fork without telling Python. */
#define PL_LIVENESS_FDS_MAX 1024
static int pl_liveness_fds_[PL_LIVENESS_FDS_MAX]; /* fd + 1; 0: unused */

static void pl_forked_(void) {
    pl_fork_depth_++;
    for (int i = 0; i < PL_LIVENESS_FDS_MAX; i++) {
        if (pl_liveness_fds_[i]) close(pl_liveness_fds_[i] - 1);
        pl_liveness_fds_[i] = 0;
    }
}
static inline void pl_fork_watch(void) { pthread_atfork(NULL, NULL, pl_forked_); }
static inline uint32_t pl_fork_depth(void) { return pl_fork_depth_; }
static inline void pl_close_in_children(int fd, int yes) {
    int from = yes ? 0 : fd + 1, to = yes ? fd + 1 : 0;
    for (int i = 0; i < PL_LIVENESS_FDS_MAX; i++) {
        if (pl_liveness_fds_[i] == from) {
            pl_liveness_fds_[i] = to;
            return;
        }
    }
}
#endif
