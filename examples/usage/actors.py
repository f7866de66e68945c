"""Actors: objects that live in processes of their own."""

from __future__ import annotations

import asyncio
import os
import time

import orchestrator as ray


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    @ray.method(num_returns=2)
    def minimum_and_maximum(self):
        return min(0, self.value), max(0, self.value)

    def crash(self):
        os._exit(1)


@ray.remote
def increment_often(counter, times):
    """A handle can be passed to tasks: they all use the same actor."""
    ray.get([counter.increment.remote() for _ in range(times)])


@ray.remote
class Service:
    """With async methods, many calls are under way at a time: here each waits until all have come."""

    def __init__(self, expected):
        self.expected = expected
        self.come = 0
        self.all_here = asyncio.Event()

    async def request(self):
        self.come += 1
        if self.come == self.expected:
            self.all_here.set()
        await self.all_here.wait()
        return self.come


@ray.remote(max_concurrency=2)
class Pair:
    """With max_concurrency, calls run in threads: here the first waits for the second."""

    def __init__(self):
        import threading

        self.event = threading.Event()

    def wait(self):
        return self.event.wait(timeout=30)

    def set(self):
        self.event.set()


@ray.remote(max_restarts=1, max_task_retries=-1)
class Stubborn:
    def __init__(self, path):
        self.path = path

    def work(self):
        if not os.path.exists(self.path):
            open(self.path, "w").close()
            os._exit(1)  # what a bug in a library may do
        return "done, in the second life"


class Base:
    def greet(self):
        return f"hello from {self.name()}"


@ray.remote
class Derived(Base):
    def name(self):
        return "a subclass"


def main():
    ray.init(num_cpus=2)
    counter = Counter.remote(10)
    print("in order:", ray.get([counter.increment.remote(i) for i in range(4)]))
    print("several results:", ray.get(counter.minimum_and_maximum.remote()))
    ray.get([increment_often.remote(counter, 10) for _ in range(3)])
    print("shared by tasks:", ray.get(counter.increment.remote(0)))
    print("inherited:", ray.get(Derived.remote().greet.remote()))

    service = Service.remote(20)
    print("at a time:", set(ray.get([service.request.remote() for _ in range(20)])))
    pair = Pair.remote()
    waiting = pair.wait.remote()
    ray.get(pair.set.remote())
    print("two threads:", ray.get(waiting))

    # By name, from anywhere in the session.
    named = Counter.options(name="the counter").remote()
    ray.get(named.increment.remote(5))
    print("by name:", ray.get(ray.get_actor("the counter").increment.remote()))
    again = Counter.options(name="the counter", get_if_exists=True).remote(1000)
    print("the same one:", ray.get(again.increment.remote()))

    # An actor that dies takes its calls with it, unless it may be restarted.
    try:
        ray.get(counter.crash.remote())
    except ray.exceptions.RayActorError as error:
        print("died:", type(error).__name__)
    path = f"{os.path.basename(__file__)}.{os.getpid()}"
    try:
        print("restarted:", ray.get(Stubborn.remote(path).work.remote()))
    finally:
        os.remove(path)
    ray.kill(named)
    for _ in range(100):
        try:
            ray.get_actor("the counter")
        except ValueError:
            print("killed: its name is free")
            break
        time.sleep(0.05)
    ray.shutdown()


if __name__ == "__main__":
    main()
