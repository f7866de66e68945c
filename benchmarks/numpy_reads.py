"""What does it cost a process to read an array that another process made?

    python benchmarks/numpy_reads.py --vs ray,pipe,shared_memory,memmap

Arrays of 1 KiB to 4 GiB, read by 1, 2 and 4 processes at once. A *read* is all that lies between "I know its
name" and "I have a numpy array and have touched its first and last element", and letting go of it again; the
peers' reads are what their documentation tells one to write. The figure is the median over the readers of
each reader's median.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from harness import command_line, compare, emit

SIDES = ("plasma", "orchestrator")
PEERS = ("ray", "pipe", "shared_memory", "memmap")
SIZES = {
    "1 KiB": 1 << 10,
    "64 KiB": 1 << 16,
    "1 MiB": 1 << 20,
    "16 MiB": 1 << 24,
    "256 MiB": 1 << 28,
    "1 GiB": 1 << 30,
}
SIZES_FULL = {**SIZES, "4 GiB": 1 << 32}
READERS = (1, 2, 4)
#: A reader goes on for this long, but for three reads at least (one, if it takes long) and this many at most.
READ_WINDOW_S = 0.4
READS_MAX = 2000
LONG_READ_S = 0.5

fork = multiprocessing.get_context("fork")


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def touch(array: np.ndarray) -> int:
    return int(array[0]) + int(array[-1])


def median_read_us(read: Callable[[], Any]) -> float:
    samples: list[float] = []
    start = time.perf_counter()
    read()
    if time.perf_counter() - start > LONG_READ_S:
        return (time.perf_counter() - start) * 1e6
    end = time.perf_counter() + READ_WINDOW_S
    while len(samples) < 3 or (time.perf_counter() < end and len(samples) < READS_MAX):
        start = time.perf_counter()
        read()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples) * 1e6


def in_processes(readers: int, read_all: Callable[[], float]) -> float:
    """Runs ``read_all`` in that many forked processes that start together; the median of what they return."""
    barrier, answers = fork.Barrier(readers), fork.SimpleQueue()

    def body() -> None:
        barrier.wait()
        answers.put(read_all())

    processes = [fork.Process(target=body) for _ in range(readers)]
    for process in processes:
        process.start()
    figures = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return statistics.median(figures)


class Plasma:
    """The store alone: readers attach to it through the descriptor they inherit."""

    def __init__(self, size_bytes_max: int) -> None:
        from plasma import Store

        self.store = Store.create(size_bytes_max + (512 << 20))

    def run(self, array: np.ndarray, readers: int) -> float:
        from plasma import Store

        key, descriptor = self.store.put(array), self.store.fd

        def read_all() -> float:
            store = Store.attach(descriptor)
            try:
                return median_read_us(lambda: touch(store.load(key)))
            finally:
                store.close()

        try:
            return in_processes(readers, read_all)
        finally:
            self.store.delete(key)

    def close(self) -> None:
        self.store.close()


class RayLike:
    """Ray, and everything with its API: readers are actors."""

    def __init__(self, module: str, size_bytes_max: int) -> None:
        self.api = importlib.import_module(module)
        self.api.init(object_store_memory=size_bytes_max + (1 << 30))
        api = self.api

        @api.remote(num_cpus=0)
        class Reader:
            def read_all(self, refs: list[Any]) -> float:
                (ref,) = refs
                return median_read_us(lambda: touch(api.get(ref)))

        self.actors = [Reader.remote() for _ in range(max(READERS))]

    def run(self, array: np.ndarray, readers: int) -> float:
        ref = self.api.put(array)
        figures = self.api.get([actor.read_all.remote([ref]) for actor in self.actors[:readers]])
        return statistics.median(figures)

    def close(self) -> None:
        self.api.shutdown()


class Pipe:
    """Pickle over a pipe, as ``multiprocessing`` does it: one writer and one pipe for each reader."""

    #: pickled at one end; at the other collected, joined and unpickled
    copies_for_each_reader = 4

    def __init__(self, size_bytes_max: int) -> None:
        del size_bytes_max

    def run(self, array: np.ndarray, readers: int) -> float:
        ends = [fork.Pipe() for _ in range(readers)]

        def serve(connection: Connection) -> None:
            while connection.recv():
                connection.send(array)

        servers = [fork.Process(target=serve, args=(ends[index][0],)) for index in range(readers)]
        for server in servers:
            server.start()
        free = fork.SimpleQueue()
        for index in range(readers):
            free.put(index)

        def read_all() -> float:
            connection = ends[free.get()][1]

            def read() -> None:
                connection.send(True)
                touch(connection.recv())

            figure = median_read_us(read)
            connection.send(False)
            return figure

        try:
            return in_processes(readers, read_all)
        finally:
            for server in servers:
                server.join()

    def close(self) -> None:
        pass


class SharedMemory:
    """``multiprocessing.shared_memory``: attach by name, wrap, detach."""

    def __init__(self, size_bytes_max: int) -> None:
        del size_bytes_max

    def run(self, array: np.ndarray, readers: int) -> float:
        from multiprocessing.shared_memory import SharedMemory as Segment

        segment = Segment(create=True, size=array.nbytes)
        mine = np.ndarray(array.shape, array.dtype, buffer=segment.buf)
        mine[:] = array

        def read() -> None:
            attached = Segment(name=segment.name)
            touch(np.ndarray(array.shape, array.dtype, buffer=attached.buf))
            attached.close()

        try:
            return in_processes(readers, lambda: median_read_us(read))
        finally:
            del mine
            segment.close()
            segment.unlink()

    def close(self) -> None:
        pass


class Memmap:
    """``np.memmap`` of a file in the temporary directory, which is in the page cache."""

    def __init__(self, size_bytes_max: int) -> None:
        del size_bytes_max
        self.directory = tempfile.TemporaryDirectory()

    def run(self, array: np.ndarray, readers: int) -> float:
        path = Path(self.directory.name, "array")
        array.tofile(path)
        try:
            return in_processes(
                readers,
                lambda: median_read_us(lambda: touch(np.memmap(path, array.dtype, "r", shape=array.shape))),
            )
        finally:
            path.unlink()

    def close(self) -> None:
        self.directory.cleanup()


def child(side: str, sizes: dict[str, int]) -> None:
    makers: dict[str, Callable[[int], Any]] = {
        "plasma": Plasma,
        "pipe": Pipe,
        "shared_memory": SharedMemory,
        "memmap": Memmap,
    }
    maker = makers.get(side, lambda size_bytes_max: RayLike(side, size_bytes_max))
    subject = maker(max(sizes.values()))
    try:
        for label, size_bytes in sizes.items():
            array = np.ones(size_bytes, np.uint8)
            for readers in READERS:
                copies = 1 + readers * getattr(subject, "copies_for_each_reader", 0)
                if copies * size_bytes > memory_bytes() // 2:
                    continue
                emit(
                    f"{label}, {readers} " + ("reader" if readers == 1 else "readers"),
                    subject.run(array, readers),
                    "µs",
                )
    finally:
        subject.close()


def main() -> None:
    arguments = command_line(__doc__, quick="up to 1 GiB, not 4", peers=PEERS, without_ours=True).parse_args()
    # The largest array is there as the original, in the store, and once more while it is put there.
    allowed = SIZES if arguments.quick else SIZES_FULL
    sizes = {label: size for label, size in allowed.items() if 5 * size < memory_bytes()}
    if arguments.child:
        child(arguments.child, sizes)
        return
    compare(__file__, "numpy_reads", "reads of a numpy array", SIDES, arguments)


if __name__ == "__main__":
    main()
