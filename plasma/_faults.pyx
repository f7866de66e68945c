"""Deaths on purpose: the labelled steps at which the crash tests kill a process. See plasma.testing."""
from libc.stdint cimport uint32_t
from libc.signal cimport SIGKILL
from plasma.attachment cimport Client
from plasma.layout cimport CRASH_POINTS, Segment

from plasma import attachment

_NAMES = (
    "create_allocating", "create_allocated", "create_filled", "create_held", "create_committed", "create_linked",
    "create_containing", "create_contained", "write", "seal_locked", "seal_committed", "seal_rang", "get_locked",
    "get_held", "get_pinned", "release_locked", "release_unpinned", "release_unheld", "delete_marked",
    "delete_cascading", "delete_intent", "delete_freed", "delete_merging", "delete_done", "spill_numbered",
    "spill_writing", "spill_written", "spill_locked", "spill_intent", "spill_committed", "spill_freed",
    "restore_allocated", "restore_claimed", "restore_read", "restore_committed", "restore_lost", "restore_dropped",
    "delete_file", "send_claimed", "send_written", "send_published", "receive_taken", "receive_copied", "receive_advanced", "channel_created",
    "channel_announced", "keep_held", "keep_kept", "unneeded_told", "unneeded_listed", "unneeded_taken", "unkeep_unmarked",
    "drop_claimed", "reap_marked", "reap_dropping", "reap_dropped",
)
assert len(_NAMES) == CRASH_POINTS - 1


def names():
    return _NAMES


def arm(name, countdown=1, signal=SIGKILL):
    """Every store that this process has open gets a signal at that step, the countdown-th time it is reached, and every
    stand-in that is made of one later."""
    cdef Client client
    for client in list(attachment._clients):
        _arm(client.seg, _NAMES.index(name) + 1, countdown, signal)
        _arm(&client.arena.seg, _NAMES.index(name) + 1, countdown, signal)


cdef _arm(Segment* seg, uint32_t point, uint32_t countdown, int signal):
    seg.crash_countdown = countdown
    seg.crash_signal = signal
    seg.crash_point = point
