"""Tasks: functions that run elsewhere, and what can be said about how."""

from __future__ import annotations

import time

import orchestrator as ray


@ray.remote
def square(x):
    return x * x


@ray.remote
def add(x, y):
    return x + y


@ray.remote(num_returns=3)
def three_values():
    return 1, 2, 3


@ray.remote
def fibonacci(n):
    """A task may submit tasks; it gives its CPU back while it waits for them."""
    if n < 2:
        return n
    return sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))


@ray.remote
def take_long(seconds):
    time.sleep(seconds)
    return seconds


@ray.remote(max_retries=5, retry_exceptions=[ConnectionError])
def fails_twice(attempts):
    if ray.get(attempts.next.remote()) < 3:
        raise ConnectionError("the network is down")
    return "connected"


@ray.remote
class Attempts:
    def __init__(self):
        self.count = 0

    def next(self):
        self.count += 1
        return self.count


@ray.remote
def divide(x, y):
    return x / y


def main():
    ray.init(num_cpus=2)
    # Calls return at once; get() waits for the values, in order.
    print("squares:", ray.get([square.remote(i) for i in range(5)]))
    # A reference may be an argument: this task starts when the other is done.
    print("sum of squares:", ray.get(add.remote(square.remote(3), square.remote(4))))
    first, second, third = three_values.remote()
    print("several results:", ray.get([third, second, first]))
    print("options for one call:", ray.get(three_values.options(num_returns=1).remote()))
    print("tasks of tasks:", ray.get(fibonacci.remote(8)))

    # What is ready first is handled first.
    waiting = [take_long.remote(seconds) for seconds in (60.0, 0.0)]
    ready, waiting = ray.wait(waiting, num_returns=1)
    print("ready first:", ray.get(ready[0]), "still running:", len(waiting))
    try:
        ray.get(waiting[0], timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        print("not there after a tenth of a second")
    ray.cancel(waiting[0])
    try:
        ray.get(waiting[0])
    except ray.exceptions.TaskCancelledError:
        print("cancelled")

    # Exceptions arrive as what they are, and can be retried.
    try:
        ray.get(divide.remote(1, 0))
    except ZeroDivisionError as error:
        print("caught:", isinstance(error, ray.exceptions.RayTaskError))
    print("after two retries:", ray.get(fails_twice.remote(Attempts.remote())))
    # A failed argument fails the tasks that need it, and they never run.
    try:
        ray.get(square.remote(divide.remote(1, 0)))
    except ZeroDivisionError:
        print("caught at the end of a chain")
    ray.shutdown()


if __name__ == "__main__":
    main()
