"""Small whole programs: an estimate with a progress actor, a word count, a parameter server, a simulation."""

from __future__ import annotations

import collections
import random

import numpy as np

import orchestrator as ray

POEM = """the sea is calm to night the tide is full the moon lies fair upon the straits
on the french coast the light gleams and is gone the cliffs of england stand"""


@ray.remote(num_cpus=0)
class Progress:
    def __init__(self):
        self.done = {}

    def report(self, task, samples):
        self.done[task] = samples

    def total(self):
        return sum(self.done.values())


@ray.remote
def sample(task, count, progress):
    """How many of `count` random points lie inside the quarter circle."""
    chance = random.Random(task)
    inside, report = 0, None
    for number in range(1, count + 1):
        inside += chance.random() ** 2 + chance.random() ** 2 <= 1
        if number % 10_000 == 0:
            report = progress.report.remote(task, number)
    # Calls of different callers have no order: who asks for the total later could come before it otherwise.
    ray.get(report)
    return inside


def estimate_pi(tasks=4, count=50_000):
    progress = Progress.remote()
    inside = sum(ray.get([sample.remote(task, count, progress) for task in range(tasks)]))
    return 4 * inside / (tasks * count), ray.get(progress.total.remote())


@ray.remote
def count_words(lines, parts):
    """The map step: counts, divided by which of the reducers each word is for."""
    counts = [collections.Counter() for _ in range(parts)]
    for line in lines:
        for word in line.split():
            counts[len(word) % parts][word] += 1
    return counts


@ray.remote
def merge(*counts):
    return sum(counts, collections.Counter())


def word_count(text, parts=3):
    lines = text.splitlines()
    mapped = [count_words.options(num_returns=parts).remote([line], parts) for line in lines]
    reduced = [merge.remote(*[outputs[part] for outputs in mapped]) for part in range(parts)]
    return sum(ray.get(reduced), collections.Counter())


@ray.remote
class ParameterServer:
    def __init__(self, size):
        self.weights = np.zeros(size)

    def apply(self, *gradients):
        self.weights -= 0.1 * np.mean(gradients, axis=0)
        return self.weights

    def read(self):
        return self.weights


@ray.remote
class DataWorker:
    """Fits y = Xw on rows of its own."""

    def __init__(self, seed, truth):
        generator = np.random.default_rng(seed)
        self.rows = generator.normal(size=(100, len(truth)))
        self.targets = self.rows @ truth

    def gradient(self, weights):
        return 2 * self.rows.T @ (self.rows @ weights - self.targets) / len(self.rows)


def train(rounds=60):
    truth = np.array([1.0, -2.0, 3.0])
    server = ParameterServer.remote(len(truth))
    workers = [DataWorker.remote(seed, truth) for seed in range(2)]
    weights = server.read.remote()
    for _ in range(rounds):
        # No value passes through this process: the references are enough.
        weights = server.apply.remote(*[worker.gradient.remote(weights) for worker in workers])
    return np.round(ray.get(weights), 3).tolist()


@ray.remote
def evolve(block, above, below):
    """One generation of a game of life, of some rows; the neighbours' edge rows are arguments."""
    field = np.vstack([above, block, below])
    shifted = [np.roll(np.roll(field, dy, 0), dx, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    neighbours = sum(shifted)
    alive = (neighbours == 3) | ((field == 1) & (neighbours == 2))
    return alive.astype(np.int8)[1:-1]


@ray.remote
def edges(block):
    return block[:1], block[-1:]


def life(generations=8, blocks=3):
    field = np.zeros((12, 12), np.int8)
    for x, y in ((1, 0), (2, 1), (0, 2), (1, 2), (2, 2)):  # a glider
        field[y, x] = 1
    parts = [ray.put(part) for part in np.array_split(field, blocks)]
    for _ in range(generations):
        rows = [edges.options(num_returns=2).remote(part) for part in parts]
        parts = [
            evolve.remote(part, rows[number - 1][1], rows[(number + 1) % blocks][0])
            for number, part in enumerate(parts)
        ]
    field = np.vstack(ray.get(parts))
    return sorted((int(x), int(y)) for y, x in zip(*np.nonzero(field), strict=True))


def main():
    ray.init(num_cpus=2)
    estimate, reported = estimate_pi()
    print(f"pi is about {estimate:.1f}, after {reported} samples")
    print("words:", word_count(POEM).most_common(2))
    print("weights:", train())
    print("the glider has moved to:", life())
    ray.shutdown()


if __name__ == "__main__":
    main()
