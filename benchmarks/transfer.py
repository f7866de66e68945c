"""How fast does an object get from the store of one node into that of another?

    python benchmarks/transfer.py --vs ray,sendfile

500 MB, between two nodes on this machine, over its loopback: the time from asking for the object until it is
sealed in the other node's store. Each way that objects can travel is a row. ``sendfile`` is what the kernel
can do: one process sends from a memory file, another receives into memory that has been touched before. Ray
sends in the clear, by a way of its own, so that its figure stands in each row.

Objects come and go: each one is deleted before the next comes, so that all but the first one meet memory that
has been used before, on all sides. What the first one takes is a row of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from harness import command_line, emit, installed, interleave, save, show

SIDES = ("orchestrator",)
SIZE_BYTES = 500_000_000
STORE_BYTES = 2 << 30
#: Objects that count, after the first.
REPEATS = 7
TRUSTED, TLS, CHUNKS = "trusted network: direct", "TLS: gRPC chunks", "in the clear: gRPC chunks"
ROWS = (TRUSTED, TLS, CHUNKS)
FIRST = "+ trusted network: direct, first object"
OBJECT_ID = b"benchmark object"

fork = multiprocessing.get_context("fork")


def gb_s(seconds: float) -> float:
    return SIZE_BYTES / seconds / 1e9


# ---------------------------------------------------------------- ours


def securities() -> dict[str, tuple[Any, bool]]:
    """What each row needs: how connections are protected, and whether there are direct ones."""
    from orchestrator.rpc.credentials import Authority, utc_now
    from orchestrator.transfer.security import Security

    identity = Authority.create(utc_now()).issue("0123456789abcdef", ["127.0.0.1"], utc_now())
    return {
        TRUSTED: (Security(identity, trusted=True), True),
        TLS: (Security(identity), False),
        CHUNKS: (Security(None), False),
    }


def serve(pipe: Connection, ways: dict[str, tuple[Any, bool]]) -> None:
    """The node that has the object, once for each way."""
    from orchestrator.transfer.transfer import ObjectTransfer
    from plasma.store import Store

    with Store.create(STORE_BYTES) as store:
        store.put_parts(OBJECT_ID, [os.urandom(1 << 20) * (SIZE_BYTES >> 20), bytes(SIZE_BYTES % (1 << 20))])
        transfers = [
            ObjectTransfer(store, 1, "127.0.0.1", security, direct=direct)
            for security, direct in ways.values()
        ]
        pipe.send(dict(zip(ways, [transfer.start() for transfer in transfers], strict=True)))
        pipe.recv()
        for transfer in transfers:
            transfer.close()


@contextmanager
def in_process(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    here, there = fork.Pipe()
    process = fork.Process(target=target, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        here.send(None)
        process.join()
    finally:
        process.kill()
        process.join()


def ours() -> None:
    ways = securities()
    with in_process(serve, ways) as pipe:
        addresses = pipe.recv()
        for row, (security, _) in ways.items():
            samples = pull_again_and_again(security, addresses[row])
            if row == TRUSTED:
                emit(FIRST, gb_s(samples[0]), "GB/s")
            emit(row, gb_s(statistics.median(samples[1:])), "GB/s")


def pull_again_and_again(security: Any, address: Any) -> list[float]:
    from orchestrator.common.priority import Priority
    from orchestrator.transfer.events import Pulled
    from orchestrator.transfer.transfer import ObjectTransfer
    from plasma.store import Store

    samples = []
    with Store.create(STORE_BYTES) as store:
        transfer = ObjectTransfer(store, 2, "127.0.0.1", security)
        transfer.start()
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            transfer.pull(OBJECT_ID, [address], Priority.GET)
            select.select([transfer], [], [])
            samples.append(time.perf_counter() - start)
            assert transfer.take_events() == [Pulled(OBJECT_ID)]
            assert store.contains(OBJECT_ID)
            store.delete(OBJECT_ID)
        transfer.close()
    return samples


# ---------------------------------------------------------------- what the kernel can do


def send_file(pipe: Connection) -> None:
    file = os.memfd_create("benchmark")
    for _ in range(SIZE_BYTES >> 20):
        os.write(file, bytes(1 << 20))
    os.truncate(file, SIZE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            while connection.recv(1):
                offset = 0
                while offset < SIZE_BYTES:
                    offset += os.sendfile(connection.fileno(), file, offset, SIZE_BYTES - offset)
    pipe.recv()


def kernel() -> None:
    samples = []
    with in_process(send_file) as pipe, socket.create_connection(("127.0.0.1", pipe.recv())) as connection:
        memory = memoryview(bytearray(SIZE_BYTES))
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            connection.send(b"x")
            at = 0
            while at < SIZE_BYTES:
                at += connection.recv_into(memory[at : at + (1 << 20)], 0, socket.MSG_WAITALL)
            samples.append(time.perf_counter() - start)
        connection.shutdown(socket.SHUT_RDWR)
    emit(TRUSTED, gb_s(statistics.median(samples[1:])), "GB/s")


# ---------------------------------------------------------------- Ray


def rays() -> None:
    """A task on the one node puts, a task on the other one gets."""
    import numpy as np
    import ray
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "resources": {"one": 1}})
    cluster.add_node(**options, resources={"two": 1})
    ray.init(address=cluster.address, logging_level="error")

    @ray.remote(num_cpus=0, resources={"one": 0.1})
    class Holder:
        def put(self) -> list[Any]:
            return [ray.put(np.ones(SIZE_BYTES, np.uint8))]

    @ray.remote(num_cpus=0, resources={"two": 0.1})
    class Getter:
        def get(self, refs: list[Any]) -> float:
            start = time.perf_counter()
            value = ray.get(refs[0])
            took = time.perf_counter() - start
            assert value.nbytes == SIZE_BYTES
            return took

    holder, getter = Holder.remote(), Getter.remote()
    samples = []
    for _ in range(1 + REPEATS):
        refs = ray.get(holder.put.remote())
        samples.append(ray.get(getter.get.remote(refs)))
        del refs
        time.sleep(0.5)  # both nodes are told that it is gone
    emit(FIRST, gb_s(samples[0]), "GB/s")
    for row in ROWS:
        emit(row, gb_s(statistics.median(samples[1:])), "GB/s")
    ray.shutdown()
    cluster.shutdown()


def main() -> None:
    arguments = command_line(__doc__, quick="one round", peers=["ray", "sendfile"]).parse_args()
    if arguments.child:
        {"orchestrator": ours, "sendfile": kernel, "ray": rays}[arguments.child]()
        return
    rounds = 1 if arguments.quick else arguments.rounds
    sides = [*SIDES, *installed(name for name in arguments.vs.split(",") if name)]
    results = interleave(__file__, sides, rounds)
    table = show(results, sides, f"500 MB from node to node, median of {rounds} rounds")
    print(table)
    save("transfer", results, table, arguments)


if __name__ == "__main__":
    main()
