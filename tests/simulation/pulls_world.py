"""Many pulls among nodes that die, lie, fill up and lose connections.

The pull managers are real. Each pull ends with the right bytes or for a reason, and nothing is left of it.
"""

from __future__ import annotations

from functools import partial
from random import Random

from orchestrator.common.priority import Priority
from orchestrator.transfer import events as ev
from tests.simulation.pulls_model import SimNode, Simulation

STORE_BYTES = 1 << 16


def simulate(seed: int, *, nodes: int, objects: int, breaks: float, deaths: int) -> Simulation:
    """Have nodes pull objects while sources break and die, and stores are full, until all has ended."""
    store_bytes = STORE_BYTES
    sim = Simulation(seed, store_bytes=store_bytes, bytes_max=store_bytes // 2)
    sim.breaks = breaks
    rng = sim.rng
    for _ in range(nodes):
        sim.add_node()
    truth: dict[bytes, bytes] = {}
    holders: dict[bytes, list[int]] = {}
    for number in range(objects):
        object_id = number.to_bytes(16, "big")
        size = rng.choice([0, 1, 100, 5000, store_bytes // 8, store_bytes // 2, store_bytes * 3 // 4])
        truth[object_id] = rng.randbytes(size)
        holders[object_id] = rng.sample(range(1, nodes + 1), rng.randint(1, max(1, nodes // 2)))
        for index in holders[object_id]:
            sim.nodes[index].sealed[object_id] = truth[object_id]
    wanted: list[tuple[SimNode, bytes]] = []
    for object_id, data in truth.items():
        for node in sim.nodes.values():
            if object_id in node.sealed or rng.random() < 0.3:
                continue
            # Sources that have it, and others that are only receiving it or never will.
            sources = [*holders[object_id], *rng.sample(range(1, nodes + 1), rng.randint(0, nodes))]
            sources = [index for index in sources if index != node.index]
            rng.shuffle(sources)
            size = len(data) if rng.random() < 0.7 else None
            priority = rng.choice(list(Priority))
            when_s = rng.uniform(0.0, 3.0)
            sim.later(when_s, partial(node.want, object_id, sources, priority, size))
            if rng.random() < 0.15:
                sim.later(when_s + rng.uniform(0.0, 3.0), partial(node.tell, ev.Unwanted(object_id)))
            else:
                wanted.append((node, object_id))
    for _ in range(deaths):
        sim.later(rng.uniform(0.0, 5.0), partial(sim.kill, rng.randint(1, nodes)))
    for node in sim.nodes.values():
        # A program that holds most of the store for a while.
        taken = rng.choice([0, 0, store_bytes * 7 // 8])
        sim.later(rng.uniform(0.0, 2.0), partial(node.take, taken))
        sim.later(rng.uniform(3.0, 90.0), partial(node.take, 0))
    sim.run()
    for node, object_id in wanted:
        if not node.alive:
            continue
        report = node.last(object_id)
        assert report is not None, f"seed {seed}: nothing is known of {object_id.hex()} at node {node.index}"
        if isinstance(report, ev.Pulled):
            assert node.sealed[object_id] == truth[object_id]
        else:
            assert report.why
    for node in sim.nodes.values():
        for object_id, data in node.sealed.items():
            assert data == truth[object_id]
        if node.alive:
            assert len(node.pulls) == 0 and node.pulls.room_bytes == 0 and not node.coming
            assert not node.running
    return sim


def run(seed: int) -> None:
    """Run one history.

    Raises:
        AssertionError: a pull has not ended, or with wrong bytes, or something is left of it.
    """
    rng = Random(seed)
    simulate(
        seed,
        nodes=rng.randint(2, 6),
        objects=rng.randint(1, 8),
        breaks=rng.choice([0.0, 0.05, 0.5]),
        deaths=rng.randint(0, 2),
    )
