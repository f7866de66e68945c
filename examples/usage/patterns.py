"""Patterns: how many tasks, how large, in what order, and who waits for whom."""

from __future__ import annotations

import os
import tempfile
import time

import orchestrator as ray
from orchestrator.util import ActorPool
from orchestrator.util.queue import Empty, Queue


@ray.remote
def process(item):
    return item * 2


def limit_pending_tasks(items, most=10):
    """Back-pressure: never more than `most` calls under way, so that memory is bounded whatever comes in."""
    pending, total = [], 0
    for item in items:
        if len(pending) >= most:
            ready, pending = ray.wait(pending, num_returns=1)
            total += sum(ray.get(ready))
        pending.append(process.remote(item))
    return total + sum(ray.get(pending))


@ray.remote(num_cpus=0.1, resources={"licence": 1})
def with_a_licence(directory):
    """Limit concurrency with a resource: there are two licences, so two of these run at a time."""
    mine = tempfile.mkdtemp(dir=directory)
    time.sleep(0.02)
    held = len(os.listdir(directory))
    os.rmdir(mine)
    return held


@ray.remote
def quick_sort(items):
    """Nested tasks, but not too fine-grained ones: short lists are sorted in place."""
    if len(items) <= 50:
        return sorted(items)
    pivot = items[len(items) // 2]
    lesser = quick_sort.remote([item for item in items if item < pivot])
    greater = quick_sort.remote([item for item in items if item > pivot])
    same = [item for item in items if item == pivot]
    return ray.get(lesser) + same + ray.get(greater)


@ray.remote
def process_batch(items):
    """Batching: one task for many tiny pieces of work."""
    return sum(item * item for item in items)


@ray.remote
class Worker:
    """Pipelining: the next piece of work is asked for before the present one is done."""

    def __init__(self, queue):
        self.queue = queue

    def run(self):
        done = []
        while True:
            try:
                done.append(self.queue.get(timeout=0.2) ** 2)
            except Empty:
                return done


@ray.remote(num_cpus=0.1)
class Trainer:
    def __init__(self, name):
        self.name = name

    def fit(self, data):
        return f"{self.name}: {sum(data)}"


@ray.remote(num_cpus=0.1)
class Supervisor:
    """A tree of actors: one that makes, and speaks for, several others."""

    def __init__(self):
        self.trainers = [Trainer.remote(f"trainer {number}") for number in range(3)]

    def fit(self, data):
        return ray.get([trainer.fit.remote(data) for trainer in self.trainers])


@ray.remote(num_cpus=0.1)
class Signal:
    """Synchronization: tasks wait for a word from somebody else."""

    def __init__(self):
        import asyncio

        self.event = asyncio.Event()

    async def wait(self):
        await self.event.wait()

    def send(self):
        self.event.set()


@ray.remote
def wait_and_go(signal):
    ray.get(signal.wait.remote())
    return "go"


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Checkpointed:
    """Fault tolerance: an actor that is restarted goes on from where it had written that it was."""

    def __init__(self, path):
        self.path = path
        self.step = int(open(path).read()) if os.path.exists(path) else 0

    def advance(self):
        self.step += 1
        with open(self.path, "w") as file:
            file.write(str(self.step))
        if self.step == 2:
            os._exit(1)
        return self.step


@ray.remote
class Doubler:
    def double(self, value):
        return 2 * value


def main():
    ray.init(num_cpus=2, resources={"licence": 2})
    print("limited:", limit_pending_tasks(range(100)))
    with tempfile.TemporaryDirectory() as directory:
        held = ray.get([with_a_licence.remote(directory) for _ in range(6)])
        print("never more than two at a time:", max(held) <= 2)
    numbers = [(7 * number) % 1000 for number in range(1000)]
    print("sorted:", ray.get(quick_sort.remote(numbers)) == sorted(numbers))
    batches = [range(start, start + 1000) for start in range(0, 10_000, 1000)]
    print("batches:", sum(ray.get([process_batch.remote(batch) for batch in batches])))

    queue = Queue()
    for number in range(10):
        queue.put(number)
    done = ray.get([Worker.remote(queue).run.remote() for _ in range(2)])
    print("from a queue:", sorted(done[0] + done[1]))
    pool = ActorPool([Doubler.remote() for _ in range(2)])
    print("pool:", list(pool.map(lambda actor, value: actor.double.remote(value), range(5))))
    print("tree:", ray.get(Supervisor.remote().fit.remote([1, 2, 3])))

    signal = Signal.remote()
    waiting = [wait_and_go.remote(signal) for _ in range(2)]
    print("nobody goes:", ray.wait(waiting, timeout=0.2)[0])
    ray.get(signal.send.remote())
    print("all go:", ray.get(waiting))
    with tempfile.TemporaryDirectory() as directory:
        actor = Checkpointed.remote(os.path.join(directory, "step"))
        print("steps:", [ray.get(actor.advance.remote()) for _ in range(3)])
    ray.shutdown()


if __name__ == "__main__":
    main()
