/* A thread that touches fresh memory ahead of the allocator, so that the next large object finds warm pages.
 *
 * Bounded: never more than PL_WARM_AHEAD beyond what has been allocated, and only after a large object
 * was: a store of small objects, or an idle one, stays as small as it is. */
#ifndef PLASMA_WARMER_H
#define PLASMA_WARMER_H
#include "atomics.h"
#include "copying.h"

#define PL_WARM_AHEAD (64ULL << 20)
#define PL_WARM_STRIDE (2ULL << 20)

typedef struct {
    pthread_t thread;
    int running;
    uint32_t asked; /* futex word: counts requests */
    uint32_t stop;
    char *data;
    uint64_t size;
    uint64_t wanted; /* populate up to here */
    uint64_t warmed; /* the thread's own */
} pl_warmer;

static void *pl_warm_run_(void *arg) {
    pl_warmer *w = (pl_warmer *)arg;
    while (!load32(&w->stop)) {
        uint32_t asked = load32(&w->asked);
        uint64_t wanted = load64(&w->wanted);
        while (w->warmed < wanted && !load32(&w->stop)) {
            uint64_t n = wanted - w->warmed < PL_WARM_STRIDE ? wanted - w->warmed : PL_WARM_STRIDE;
            pl_populate(w->data + w->warmed, n);
            w->warmed += n;
        }
        if (load32(&w->stop)) break;
        pl_futex_wait(&w->asked, asked, -1);
    }
    return NULL;
}

/* fresh_at: where never-used memory begins now. Starts the thread the first time. */
static void pl_warm_from(pl_warmer *w, char *data, uint64_t size, uint64_t fresh_at) {
    uint64_t wanted = fresh_at + PL_WARM_AHEAD < size ? fresh_at + PL_WARM_AHEAD : size;
    if (!w->running) {
        sigset_t all, before;
        w->data = data;
        w->size = size;
        w->stop = 0;
        w->warmed = fresh_at;
        store64(&w->wanted, wanted);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        w->running = pthread_create(&w->thread, NULL, pl_warm_run_, w) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return;
    }
    if (wanted > w->wanted) {
        store64(&w->wanted, wanted);
        add32(&w->asked, 1);
        pl_futex_wake_all(&w->asked);
    }
}

/* alive: false in a forked child, which has the struct but not the thread. */
static void pl_warm_stop(pl_warmer *w, int alive) {
    if (!w->running) return;
    w->running = 0;
    if (!alive) return;
    store32(&w->stop, 1);
    add32(&w->asked, 1);
    pl_futex_wake_all(&w->asked);
    pthread_join(w->thread, NULL);
}
#endif
