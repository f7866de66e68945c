"""The watch for leaks finds what it is for: a check that can't fail would let everything through."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading

from tests.leaks import holdings, leaked_since


def test_nothing_is_held_beyond_itself() -> None:
    assert leaked_since(holdings()) == []


def test_a_process_left_behind_is_found() -> None:
    before = holdings()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (found,) = [leak for leak in leaked_since(before, timeout_s=0) if leak.startswith("processes")]
    assert str(child.pid) in found
    child.communicate()
    assert leaked_since(before) == []


def test_a_zombie_counts_as_a_process_until_it_is_waited_for() -> None:
    before = holdings()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert any("state Z" in leak for leak in leaked_since(before, timeout_s=0))
    os.waitpid(pid, 0)
    assert leaked_since(before) == []


def test_a_descriptor_left_open_is_found() -> None:
    before = holdings()
    ends = os.pipe()
    assert len(leaked_since(before, timeout_s=0)) == 2
    for end in ends:
        os.close(end)
    assert leaked_since(before) == []


def test_a_thread_left_running_is_found() -> None:
    before = holdings()
    finish = threading.Event()
    thread = threading.Thread(target=finish.wait, name="forgotten")
    thread.start()
    (found,) = leaked_since(before, timeout_s=0)
    assert "forgotten" in found
    finish.set()
    thread.join()
    assert leaked_since(before) == []


def test_shared_memory_left_mapped_is_found_though_its_descriptor_is_closed() -> None:
    before = holdings()
    descriptor = os.memfd_create("forgotten")
    os.ftruncate(descriptor, mmap.PAGESIZE)
    mapped = mmap.mmap(descriptor, mmap.PAGESIZE)
    os.close(descriptor)
    # mmap keeps a duplicate of the descriptor: that is found as well.
    assert any(leak.startswith("shared memory") for leak in leaked_since(before, timeout_s=0))
    mapped.close()
    assert leaked_since(before) == []
