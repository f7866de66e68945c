"""How long until eight nodes have an object that one node has?

    sudo python benchmarks/broadcast.py

1 GiB to eight nodes, each in a network namespace of its own whose link is shaped, in both directions, to a
rate that this machine can serve on all links at once. Beside it: to one node, and to eight nodes that all ask
the first one. It needs the right to make network namespaces (root), and the commands ``ip`` and ``tc``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import Results, command_line, save, show

NODES = 8
SIZE_BYTES = 1 << 30
OBJECT_ID = b"broadcast object"
PREFIX = "orch"
ROWS = ("to 1 node", "to 8 nodes", "+ to 8 nodes, all from the first")


def address_of(node: int) -> str:
    return f"10.213.0.{node}"


# ---------------------------------------------------------------- the network


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def shape(namespace: str | None, device: str, rate_mbit: int) -> None:
    tool = ["tc"] if namespace is None else ["ip", "netns", "exec", namespace, "tc"]
    rate = f"{rate_mbit}mbit"
    shaping = ["root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms"]
    subprocess.run([*tool, "qdisc", "add", "dev", device, *shaping], check=True, capture_output=True)


@contextmanager
def network(nodes: int, rate_mbit: int) -> Iterator[list[str]]:
    """One bridge, and a namespace for each node, with a link of that rate each way. Yields their names."""
    tag = f"{PREFIX}{os.getpid() % 100000}"
    names = [f"{tag}n{node}" for node in range(1, nodes + 1)]
    bridge = f"{tag}b"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for node, name in enumerate(names, 1):
            outer = f"{tag}v{node}"
            ip("netns", "add", name)
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outer, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"{address_of(node)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            shape(None, outer, rate_mbit)
            shape(name, "eth0", rate_mbit)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


# ---------------------------------------------------------------- a node


def node_process(node: int, size_bytes: int) -> None:
    """Do what the lines of standard input say; answer in lines."""
    import select

    from orchestrator.common.priority import Priority
    from orchestrator.transfer.addresses import NodeAddress
    from orchestrator.transfer.events import Pulled
    from orchestrator.transfer.security import Security
    from orchestrator.transfer.transfer import ObjectTransfer
    from plasma.store import Store

    with Store.create(size_bytes + (64 << 20)) as store:
        transfer = ObjectTransfer(store, node, address_of(node), Security(None))
        print(json.dumps(transfer.start()), flush=True)
        while True:
            readable, _, _ = select.select([sys.stdin, transfer], [], [])
            if transfer in readable:
                for event in transfer.take_events():
                    print(json.dumps(["pulled" if isinstance(event, Pulled) else str(event)]), flush=True)
            if sys.stdin in readable:
                word, *rest = json.loads(os.read(0, 1 << 16) or b'["end"]')
                if word == "end":
                    break
                if word == "drop":
                    store.delete(OBJECT_ID)
                elif word == "put":
                    store.put_parts(OBJECT_ID, [bytes(size_bytes)])
                elif word == "pull":
                    transfer.pull(OBJECT_ID, [NodeAddress(*one) for one in rest[0]], Priority.GET, size_bytes)
                if word in ("drop", "put"):
                    print(json.dumps([word]), flush=True)
        transfer.close()


class Node:
    """A node process, from outside."""

    def __init__(self, node: int, namespace: str, size_bytes: int) -> None:
        self.node = node
        command = ["ip", "netns", "exec", namespace, sys.executable, __file__]
        self.process = subprocess.Popen(
            [*command, "--node", str(node), "--size", str(size_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.address = self.hear()

    def say(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode())
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def told(self, word: str) -> None:
        self.say(word)
        assert self.hear() == [word]


def spread(nodes: list[Node], size_bytes: int, planned: bool) -> float:
    """Have all but the first get the object; returns how long that took, in seconds."""
    import selectors

    from orchestrator.gateway.broadcast import Assigned, Broadcast

    by_number = {node.node: node for node in nodes}
    first, *others = nodes
    broadcast = Broadcast(size_bytes)

    def perform(instructions: Any) -> None:
        for one in instructions:
            assert isinstance(one, Assigned)
            sources = [one.source, *one.others] if planned else [first.node]
            by_number[one.node].say("pull", [by_number[number].address for number in sources])

    start = time.perf_counter()
    perform(broadcast.copied(first.node))
    with selectors.DefaultSelector() as waiting:
        for node in others:
            assert node.process.stdout is not None
            waiting.register(node.process.stdout, selectors.EVENT_READ, node)
            perform(broadcast.wanted(node.node))
        while broadcast.receivers:
            for key, _ in waiting.select():
                heard = key.data.hear()
                assert heard == ["pulled"], heard
                perform(broadcast.copied(key.data.node))
    took_s = time.perf_counter() - start
    for node in others:
        node.told("drop")
    return took_s


def main() -> None:
    parser = command_line(__doc__, quick="an eighth of the size, one round")
    parser.add_argument("--rate", type=int, default=400, help="of each link, in Mbit/s")
    parser.add_argument("--size", type=int, default=SIZE_BYTES)
    parser.add_argument("--node", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size_bytes = arguments.size // 8 if arguments.quick else arguments.size
    if arguments.node:
        node_process(arguments.node, arguments.size)
        return
    if os.geteuid() or not shutil.which("tc"):
        sys.exit("broadcast.py makes network namespaces: it needs root, `ip` and `tc`")
    results = Results()
    rounds = 1 if arguments.quick else arguments.rounds
    with network(1 + NODES, arguments.rate) as names:
        nodes: list[Node] = []
        try:
            nodes += [Node(number, name, size_bytes) for number, name in enumerate(names, 1)]
            nodes[0].told("put")
            for _ in range(rounds):
                for row, some, planned in zip(
                    ROWS, (nodes[:2], nodes, nodes), (True, True, False), strict=True
                ):
                    took_s = spread(some, size_bytes, planned)
                    print(f"  {row}: {took_s:.1f} s", file=sys.stderr, flush=True)
                    results.add("orchestrator", row, took_s, "s")
        finally:
            for node in nodes:
                assert node.process.stdin is not None
                node.process.stdin.close()
                node.process.wait()
    one, many = (results.median(row, "orchestrator") for row in ROWS[:2])
    title = f"{size_bytes >> 20} MiB over links of {arguments.rate} Mbit/s, median of {rounds} rounds"
    table = show(results, ["orchestrator"], title)
    if one and many:
        table += f"\n\n8 nodes take {many / one:.2f} times as long as one."
    print(table)
    save("broadcast", results, table, arguments)


if __name__ == "__main__":
    main()
