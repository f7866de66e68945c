"""How many files a process may have open."""

from __future__ import annotations

import resource


def raise_descriptor_limit() -> None:
    """Allow as many as the hard limit says: a node takes three for each worker, a head two for each node."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Beyond this the kernel's tables cost memory, and nobody here needs that many.
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
