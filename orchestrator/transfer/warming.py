"""Touches an object's memory ahead of the bytes that come.

Memory that nobody has used since the store was made is zeroed by the kernel at the first touch, which takes
longer than receiving into it. So a thread of its own does that, ahead of the thread that receives.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.transfer.landing import Landing

#: Below this, starting a thread costs more than it saves.
WARM_BYTES_MIN = 8 << 20
#: How much is touched by one call, in which nothing can be stopped: some milliseconds.
STRETCH_BYTES = 4 << 20


@contextmanager
def warmed(landing: Landing) -> Iterator[None]:
    """Have what is missing of a landing touched, as long as this lasts."""
    first = landing.received_bytes
    if not landing.allocation.fresh or landing.size_bytes - first < WARM_BYTES_MIN:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_warm, args=(landing, first, stop), name="transfer-warm", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _warm(landing: Landing, at: int, stop: threading.Event) -> None:
    while at < landing.size_bytes and not stop.is_set():
        landing.allocation.populate(at, min(STRETCH_BYTES, landing.size_bytes - at))
        at += STRETCH_BYTES
        if at <= landing.received_bytes:
            # The bytes were faster, and touched everything up to here themselves.
            at = landing.received_bytes + STRETCH_BYTES
