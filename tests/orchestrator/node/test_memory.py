"""Memory: what counts as used, when somebody is ended for it, and who."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.node.memory import MemorySources
from orchestrator.node.memory_monitor import FAR_S, NEAR_S, MemoryMonitor, Verdict
from orchestrator.scheduling.worker_slots import WorkerChange, WorkerSlots

GIB = 1 << 30
MIB = 1 << 20


class Machine:
    """Files as the kernel shows them, under a directory of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/cgroup", "")
        self.machine(total=16 * GIB, available=12 * GIB)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def machine(self, total: int, available: int) -> None:
        text = f"MemTotal: {total >> 10} kB\nMemFree: 1 kB\nMemAvailable: {available >> 10} kB\n"
        self.write("proc/meminfo", text)

    def group_v2(self, limit: int | str, current: int, file: int) -> None:
        self.write("proc/self/cgroup", "0::/box\n")
        self.write("sys/fs/cgroup/box/memory.max", f"{limit}\n")
        self.write("sys/fs/cgroup/box/memory.current", f"{current}\n")
        text = f"anon 1\ninactive_file {file // 2}\nactive_file {file // 2}\nslab_reclaimable 0\n"
        self.write("sys/fs/cgroup/box/memory.stat", text)

    def group_v1(self, limit: int, usage: int, file: int) -> None:
        self.write("proc/self/cgroup", "4:cpu,memory:/box\n0::/\n")
        self.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{limit}\n")
        self.write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{usage}\n")
        text = f"total_inactive_file {file}\ntotal_active_file 0\n"
        self.write("sys/fs/cgroup/memory/memory.stat", text)

    def process(self, pid: int, private: int) -> None:
        self.write(
            f"proc/{pid}/status", f"Name: python\nRssAnon:\t{private >> 10} kB\nRssShmem:\t9999999 kB\n"
        )

    def sources(self, **options: int) -> MemorySources:
        return MemorySources(str(self.root), **options)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_machine(machine: Machine) -> None:
    (reading,) = machine.sources().read()
    assert (reading.used_bytes, reading.limit_bytes) == (4 * GIB, 16 * GIB)


def test_page_cache_of_a_control_group_is_not_in_use(machine: Machine) -> None:
    machine.group_v2(4 * GIB, current=3 * GIB, file=2 * GIB)
    reading = machine.sources().read()[1]
    assert (reading.used_bytes, reading.limit_bytes) == (1 * GIB, 4 * GIB)


def test_a_control_group_of_the_old_kind_mounted_as_the_root(machine: Machine) -> None:
    machine.group_v1(4 * GIB, usage=3 * GIB, file=1 * GIB)
    reading = machine.sources().read()[1]
    assert (reading.used_bytes, reading.limit_bytes) == (2 * GIB, 4 * GIB)


def test_groups_without_a_limit_do_not_count(machine: Machine) -> None:
    machine.group_v2("max", current=3 * GIB, file=0)
    assert len(machine.sources().read()) == 1
    machine.group_v1(0x7FFFFFFFFFFFF000, usage=3 * GIB, file=0)
    assert len(machine.sources().read()) == 1


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert MemorySources(str(tmp_path)).read() == [] and MemorySources(str(tmp_path)).available_bytes() == 0


def test_the_least_that_is_left_counts(machine: Machine) -> None:
    machine.group_v2(4 * GIB, current=3 * GIB, file=0)
    assert machine.sources().available_bytes() == 1 * GIB


def test_shared_memory_is_nobodys_own(machine: Machine) -> None:
    machine.process(7, private=100 * MIB)
    assert machine.sources().private_bytes(7) == 100 * MIB
    assert machine.sources().private_bytes(8) == 0
    (_, session) = machine.sources(session_limit_bytes=GIB).read([7, 8])
    assert (session.used_bytes, session.limit_bytes) == (100 * MIB, GIB)


class Watched:
    """A monitor, workers with pids 1001, 1002, ... and a clock that is turned by hand."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.monitor = MemoryMonitor(machine.sources(), threshold=0.9)
        self.slots = WorkerSlots()
        self.now_s = 100.0
        self.evictable_bytes = 0

    def worker(self, token: int, private: int, *, busy: bool = True, retriable: bool = True) -> None:
        slot = self.slots.add(token, "", self.now_s)
        self.slots.set_address(slot, token)
        self.slots.change(slot, WorkerChange.READY, self.now_s)
        if busy:
            self.slots.change(slot, WorkerChange.LEASE, self.now_s)
            slot.holder, slot.scheduling = 1, SchedulingClass(ResourceSet(), retriable=retriable)
        self.machine.process(1000 + token, private)
        self.now_s += 10

    def look(self) -> Verdict | None:
        self.now_s += FAR_S
        pid_of = lambda token: 1000 + token  # noqa: E731
        return self.monitor.look(self.now_s, self.slots, pid_of, lambda: self.evictable_bytes)

    def dies(self, token: int) -> None:
        slot = self.slots.get(token)
        assert slot is not None
        self.slots.change(slot, WorkerChange.DIE, self.now_s)


@pytest.fixture
def watched(machine: Machine) -> Watched:
    return Watched(machine)


def test_nobody_is_ended_while_there_is_memory(watched: Watched) -> None:
    watched.worker(1, 8 * GIB)
    assert watched.look() is None
    assert watched.monitor.due_s() == watched.now_s + FAR_S, "and it does not look often"


def test_it_looks_more_often_when_memory_gets_short(watched: Watched) -> None:
    watched.machine.machine(16 * GIB, available=3 * GIB)
    assert watched.look() is None
    assert watched.monitor.due_s() == watched.now_s + NEAR_S


def test_reading_a_large_file_ends_nobody(watched: Watched) -> None:
    watched.worker(1, 1 * GIB)
    watched.machine.group_v2(4 * GIB, current=4 * GIB - 4096, file=3 * GIB)
    watched.monitor = MemoryMonitor(watched.machine.sources(), threshold=0.9)
    assert watched.look() is None


def test_the_youngest_is_ended_and_the_evidence_named(watched: Watched) -> None:
    watched.worker(1, 8 * GIB)
    watched.worker(2, 6 * GIB)
    watched.machine.machine(16 * GIB, available=1 * GIB)
    verdict = watched.look()
    assert verdict is not None and (verdict.token, verdict.alone) == (2, False)
    for text in ("15.00 GiB of 16.00 GiB", "the machine", "this process had 6.00 GiB", "pid 1001: 8.00 GiB"):
        assert text in verdict.reason


def test_one_at_a_time(watched: Watched) -> None:
    watched.worker(1, 8 * GIB)
    watched.worker(2, 6 * GIB)
    watched.machine.machine(16 * GIB, available=1 * GIB)
    assert watched.look() is not None
    assert watched.look() is None, "it is still on its way out"
    watched.dies(2)
    verdict = watched.look()
    assert verdict is not None and (verdict.token, verdict.alone) == (1, True)


def test_who_has_next_to_nothing_does_not_make_the_culprit_one_of_several(watched: Watched) -> None:
    """What is alone with its memory is not tried again: beside an idle actor that would never end."""
    watched.worker(1, 12 * GIB)
    watched.worker(2, 12 * MIB)
    watched.machine.machine(16 * GIB, available=1 * GIB)
    verdict = watched.look()
    assert verdict is not None and (verdict.token, verdict.alone) == (1, True)


def test_idle_workers_with_much_memory_go_first(watched: Watched) -> None:
    watched.worker(1, 2 * GIB, busy=False)
    watched.worker(2, 6 * GIB)
    watched.worker(3, 1 * MIB, busy=False)
    watched.machine.machine(16 * GIB, available=1 * GIB)
    verdict = watched.look()
    assert verdict is not None and verdict.token == 1 and "idle" in verdict.reason


def test_free_pages_of_the_store_are_free(watched: Watched) -> None:
    watched.worker(1, 6 * GIB)
    watched.machine.machine(16 * GIB, available=1 * GIB)
    watched.evictable_bytes = 2 * GIB
    assert watched.look() is None


def test_it_can_be_turned_off(machine: Machine) -> None:
    watched = Watched(machine)
    watched.worker(1, 6 * GIB)
    machine.machine(16 * GIB, available=0)
    watched.monitor = MemoryMonitor(machine.sources(), interval_s=0)
    assert watched.look() is None
