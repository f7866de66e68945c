"""The one thing about locks that isn't inline: what happens when a lock is beyond repair."""
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort


cdef void lock_broken() noexcept nogil:
    # ENOTRECOVERABLE or EINVAL: the mutex's own bytes were overwritten. Going on without it would corrupt data silently.
    fprintf(stderr, b"plasma: a lock in the segment is damaged; somebody wrote over the store's header. Aborting.\n")
    abort()
