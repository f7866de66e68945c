"""More objects than memory holds: they go to disk and come back, and nothing of them is left at the end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core import runtime as runtimes
from orchestrator.exceptions import (
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    SpilledObjectLostError,
)
from orchestrator.node import spill_dir
from orchestrator.node.session_dir import sweep_dead_sessions

MIB = 1 << 20
STORE = 48 * MIB


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ray.Session]:
    with ray.init(
        num_cpus=2, object_store_memory=STORE, object_spilling_directory=str(tmp_path), log_to_driver=False
    ) as session:
        yield session


def array(number: int, mib: int = 8) -> np.ndarray:
    return np.full(mib * MIB // 8, number, dtype=np.int64)


def spilled(tmp_path: Path) -> list[Path]:
    return [file for directory in tmp_path.glob("orchestrator-spilled-*") for file in directory.iterdir()]


@ray.remote
def produce(number: int) -> np.ndarray:
    return array(number)


@ray.remote
def total(*arrays: np.ndarray) -> int:
    return sum(int(one.sum()) for one in arrays)


def test_values_that_were_put(session, tmp_path):
    refs = [ray.put(array(number)) for number in range(15)]
    assert len(spilled(tmp_path)) >= 9
    for number, ref in enumerate(refs):
        assert int(ray.get(ref)[0]) == number
    ready, rest = ray.wait(refs, num_returns=15)
    assert (len(ready), rest) == (15, [])
    del ref, ready
    refs.clear()
    assert spilled(tmp_path) == []


def test_results_and_arguments_of_tasks(session, tmp_path):
    refs = [produce.remote(number) for number in range(15)]
    assert ray.get([total.remote(ref) for ref in refs]) == [MIB * number for number in range(15)]
    assert spilled(tmp_path)
    assert ray.get(total.remote(*refs[:4])) == MIB * (0 + 1 + 2 + 3)


def test_actors_read_what_is_on_disk(session):
    @ray.remote
    class Reader:
        def first(self, refs):
            return [int(ray.get(ref)[0]) for ref in refs]

    refs = [ray.put(array(number)) for number in range(15)]
    assert ray.get(Reader.remote().first.remote(refs)) == list(range(15))


def test_functions_and_actors_are_none_of_what_goes_to_disk(session, tmp_path):
    """An actor lives on while others fill the store, and is restarted though every file is gone."""

    @ray.remote(max_restarts=1, max_task_retries=1)
    class Idle:
        def __init__(self, number):
            self.number = number

        def both(self):
            return os.getpid(), self.number

    @ray.remote
    def call(actor):
        return ray.get(actor.both.remote())

    actor = Idle.remote(7)
    pid, _ = ray.get(actor.both.remote())
    refs = [ray.put(array(number)) for number in range(15)]
    for file in spilled(tmp_path):
        file.unlink()
    # When another process drops its handle the actor looks whether there are others.
    assert [ray.get(call.remote(actor)) for _ in range(5)] == [(pid, 7)] * 5
    os.kill(pid, signal.SIGKILL)
    assert ray.get(call.remote(actor), timeout=60)[1] == 7
    del refs


def test_more_is_read_at_once_than_memory_holds(session):
    refs = [ray.put(array(number)) for number in range(15)]
    arrays = ray.get(refs)
    assert [int(one[-1]) for one in arrays] == list(range(15))


def test_an_object_larger_than_the_store(session):
    with pytest.raises(
        ObjectStoreFullError, match=rf"of {64 * MIB + 64} bytes.*{STORE}.*object_store_memory"
    ):
        ray.put(array(1, 64))


def test_everything_is_in_use(session):
    arrays = [ray.get(ray.put(array(number, 10))) for number in range(4)]
    with pytest.raises(ObjectStoreFullError, match="pinned"):
        ray.put(array(1, 10))
    del arrays
    ray.put(array(1, 10))


def test_a_full_disk(session):
    refs = [ray.put(array(number)) for number in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutOfDiskError, match="object_spilling_directory"):
            ray.put(array(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [int(ray.get(ref)[0]) for ref in refs] == list(range(5))


def test_a_file_that_is_gone_is_made_again_by_its_task(session, tmp_path):
    refs = [produce.remote(number) for number in range(10)]
    ray.wait(refs, num_returns=10)
    for file in spilled(tmp_path):
        file.unlink()
    assert [int(ray.get(ref)[0]) for ref in refs] == list(range(10))


def test_a_value_that_was_put_is_lost_with_its_file(session, tmp_path):
    refs = [ray.put(array(number)) for number in range(10)]
    for file in spilled(tmp_path):
        os.truncate(file, 1000)
    with pytest.raises(
        SpilledObjectLostError, match=r"was put.*can't be read|was put.*missing or damaged"
    ) as caught:
        ray.get(refs[0])
    assert isinstance(caught.value, ObjectLostError)
    assert int(ray.get(refs[-1])[0]) == 9


def test_the_directory_is_gone_with_the_session(tmp_path):
    with ray.init(num_cpus=1, object_store_memory=STORE, object_spilling_directory=str(tmp_path / "new")):
        refs = [ray.put(array(number)) for number in range(10)]
        assert refs and spilled(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


PROGRAM = """
import os, sys, time
import numpy as np
import orchestrator as ray

session = ray.init(num_cpus=1, object_store_memory=48 << 20, object_spilling_directory=sys.argv[1])
refs = [ray.put(np.zeros(1 << 20)) for _ in range(15)]
print(session.session_dir, session.node_pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("node_too", [False, True], ids=["driver", "driver and node"])
def test_nothing_is_left_of_a_session_that_was_killed(tmp_path, node_too):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None and program.stdout is not None
    with program.stdin, program.stdout:
        session_dir, node_pid = program.stdout.readline().split()
        assert spilled(tmp_path)
        pidfd = os.pidfd_open(int(node_pid))
        if node_too:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        program.kill()
        program.wait()
        if node_too:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        import select

        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(20_000)
        os.close(pidfd)
    if node_too:
        # Whoever starts the next session finds it.
        old = os.stat(session_dir).st_mtime + 3600
        assert sweep_dead_sessions(os.path.dirname(session_dir), now_s=old)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"object_spilling_directory=.*file/x"):
        ray.init(object_spilling_directory=str(tmp_path / "file" / "x"))
    assert not ray.is_initialized()


class TestWhere:
    def mountinfo(self, tmp_path: Path, path: Path, filesystem: str) -> str:
        device = path.stat().st_dev
        line = f"22 1 {os.major(device)}:{os.minor(device)} / /somewhere rw - {filesystem} none rw\n"
        (tmp_path / "mountinfo").write_text(line)
        return str(tmp_path / "mountinfo")

    def test_in_the_session_s_directory_on_a_disk(self, tmp_path):
        mountinfo = self.mountinfo(tmp_path, tmp_path, "ext4")
        chosen = spill_dir.choose_path(str(tmp_path / "s"), None, mountinfo_path=mountinfo)
        assert chosen == str(tmp_path / "s" / "spilled")

    def test_not_where_files_are_in_memory(self, tmp_path):
        mountinfo = self.mountinfo(tmp_path, tmp_path, "tmpfs")
        assert spill_dir.is_in_memory(str(tmp_path / "not" / "there"), mountinfo)

    def test_only_links_to_spill_directories_are_followed(self, tmp_path):
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("")
        (tmp_path / "s").mkdir()
        spill_dir.link(str(tmp_path / "s"), str(tmp_path / "precious"))
        spill_dir.remove_linked(str(tmp_path / "s"))
        assert (tmp_path / "precious" / "file").exists()


def test_a_session_ends_with_nothing_in_its_store(session):
    """What was put and dropped, many times over, has left no trace in the table."""
    store = runtimes.require().store
    before = store.stats()["objects"]
    for number in range(50):
        ray.put(array(number))
    assert store.stats()["objects"] == before
