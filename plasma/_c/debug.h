/* PLASMA_DEBUG=1 builds count what this process pins and allocates, and stop at the first broken invariant.
 * In other builds all of this is nothing at all. */
#ifndef PLASMA_DEBUG_H
#define PLASMA_DEBUG_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef PLASMA_DEBUG
#define PL_DEBUG 1
#define pl_invariant(condition)                                                                             \
    do {                                                                                                    \
        if (!(condition)) {                                                                                 \
            fprintf(stderr, "plasma: broken invariant: %s (%s:%d)\n", #condition, __FILE__, __LINE__);      \
            abort();                                                                                        \
        }                                                                                                   \
    } while (0)
#define pl_count(counter) (__atomic_fetch_add(&(counter), 1, __ATOMIC_RELAXED))
#else
#define PL_DEBUG 0
#define pl_invariant(condition) ((void)0)
#define pl_count(counter) ((void)0)
#endif
#endif
