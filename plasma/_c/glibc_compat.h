/* Included before every source by setup.py: binds to the symbol versions of old glibcs.
 *
 * glibc 2.34 moved libpthread into libc and gave its functions a new version, GLIBC_2.34, though nothing about
 * them changed. A wheel built on such a system would refuse to load on an older one (manylinux_2_28). The old
 * versions are still there to link with; .symver asks for them. A name that a module doesn't use costs nothing.
 *
 * To see what would need a newer glibc: objdump -T plasma/X.so | grep GLIBC_2.3
 */
#ifndef PLASMA_GLIBC_COMPAT_H
#define PLASMA_GLIBC_COMPAT_H

#include <features.h> /* __GLIBC__; nothing to do on musl */

#if defined(__GLIBC__) && defined(__linux__)
#if defined(__x86_64__)
#define PLASMA_BASE "GLIBC_2.2.5"
#define PLASMA_ROBUST "GLIBC_2.12"
#define PLASMA_ROBUST_ATTR "GLIBC_2.12"
#elif defined(__aarch64__)
#define PLASMA_BASE "GLIBC_2.17"
#define PLASMA_ROBUST "GLIBC_2.17"
#define PLASMA_ROBUST_ATTR "GLIBC_2.17"
#endif

#ifdef PLASMA_BASE
#define PLASMA_OLD(name, version) __asm__(".symver " #name "," #name "@" version)
PLASMA_OLD(pthread_create, PLASMA_BASE);
PLASMA_OLD(pthread_join, PLASMA_BASE);
PLASMA_OLD(pthread_detach, PLASMA_BASE);
PLASMA_OLD(pthread_kill, PLASMA_BASE);
PLASMA_OLD(pthread_once, PLASMA_BASE);
PLASMA_OLD(pthread_sigmask, PLASMA_BASE);
PLASMA_OLD(pthread_attr_setstacksize, PLASMA_BASE);
PLASMA_OLD(pthread_mutex_trylock, PLASMA_BASE);
PLASMA_OLD(pthread_mutex_timedlock, PLASMA_BASE);
PLASMA_OLD(pthread_mutexattr_init, PLASMA_BASE);
PLASMA_OLD(pthread_mutexattr_destroy, PLASMA_BASE);
PLASMA_OLD(pthread_mutexattr_settype, PLASMA_BASE);
PLASMA_OLD(pthread_mutexattr_setpshared, PLASMA_BASE);
PLASMA_OLD(pthread_mutexattr_setrobust, PLASMA_ROBUST_ATTR);
PLASMA_OLD(pthread_mutex_consistent, PLASMA_ROBUST);
#undef PLASMA_OLD
#undef PLASMA_ROBUST
#undef PLASMA_ROBUST_ATTR
#undef PLASMA_BASE
#endif
#endif

#endif
