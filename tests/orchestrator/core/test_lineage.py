"""Lost objects come back: their tasks run once more. Where that cannot be, the error says why."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import pytest

import orchestrator as ray
from orchestrator import exceptions
from orchestrator.core.runtime import require
from tests.orchestrator.core.losing import LENGTH, add, full, in_store, lose
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Log:
    """Counts what happened, in whichever process."""

    def __init__(self):
        self.counts = {}

    def note(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts[name]

    def count(self, name):
        return self.counts.get(name, 0)


def new_log():
    log = Log.remote()
    ray.get(log.count.remote(""))
    return log


@ray.remote
def noted(log, name, *arrays):
    ray.get(log.note.remote(name))
    return sum(arrays, np.zeros(LENGTH))


def test_a_lost_result_is_made_again():
    ref = full.remote(7)
    assert ray.get(ref)[0] == 7
    lose(ref)
    assert ray.get(ref, timeout=30)[-1] == 7


def test_only_what_is_needed_runs_again():
    log = new_log()
    first = noted.remote(log, "first")
    second = noted.remote(log, "second", first)
    ray.get(second)
    lose(second)
    ray.get(second, timeout=30)
    assert ray.get([log.count.remote("first"), log.count.remote("second")]) == [1, 2]


def test_lost_arguments_are_made_again_too_though_nobody_holds_them_any_more():
    log = new_log()
    chain = [noted.remote(log, "step")]
    for _ in range(30):
        chain.append(noted.remote(log, "step", chain[-1]))
    last = chain[-1]
    ray.get(last)
    lose(last)
    middle = chain[10]
    del chain
    assert ray.get(last, timeout=60).shape == (LENGTH,)
    # From the one that was kept on: its own arguments were not needed.
    assert ray.get(log.count.remote("step")) == 31 + 20
    assert in_store(middle)


def test_a_chain_without_any_survivor_runs_from_its_beginning():
    ref = full.remote(1)
    for _ in range(1500):
        ref = add.remote(ref, 1)
    ray.get(ref, timeout=60)
    lose(ref)
    assert ray.get(ref, timeout=60)[0] == 1501


def test_many_lost_results_are_made_at_the_same_time():
    refs = [full.remote(i) for i in range(20)]
    ray.get(refs)
    lose(*refs)
    assert [int(a[0]) for a in ray.get(refs, timeout=30)] == list(range(20))


def test_an_argument_that_is_lost_before_its_task_runs():
    ref = full.remote(3)
    ray.wait([ref])
    lose(ref)
    assert ray.get(add.remote(ref, 1), timeout=30)[0] == 4


def test_a_reference_inside_an_argument():
    @ray.remote
    def outer(refs):
        return ray.get(refs[0]) + 1

    ref = full.remote(3)
    ray.wait([ref])
    result = outer.remote([ref])
    assert ray.get(result)[0] == 4
    lose(ref, result)
    assert ray.get(result, timeout=30)[0] == 4


def test_a_borrower_asks_the_owner():
    @ray.remote
    class Holder:
        def keep(self, refs):
            self.refs = refs

        def read(self):
            return int(ray.get(self.refs[0])[0])

    holder = Holder.remote()
    ref = full.remote(5)
    ray.wait([ref])  # before it is passed on: what is deleted unseen was never there for a borrower
    ray.get(holder.keep.remote([ref]))
    lose(ref)
    assert ray.get(holder.read.remote(), timeout=30) == 5
    # The same when the owner has dropped its own reference meanwhile.
    lose(ref)
    del ref
    gc.collect()
    assert ray.get(holder.read.remote(), timeout=30) == 5


def test_a_small_value_whose_shared_copy_is_lost_is_stored_once_more():
    @ray.remote
    def read(refs):
        return ray.get(refs[0])

    ref = ray.put({"a": 1})
    assert ray.get(read.remote([ref])) == {"a": 1}
    lose(ref)
    assert ray.get(read.remote([ref]), timeout=30) == {"a": 1}


def test_several_return_values():
    @ray.remote(num_returns=3)
    def three():
        return np.zeros(LENGTH), "small", np.ones(LENGTH)

    a, b, c = three.remote()
    ray.get([a, b, c])
    lose(a)
    assert ray.get(a, timeout=30)[0] == 0
    lose(a, c)
    assert [ray.get(c, timeout=30)[0], ray.get(b), ray.get(a, timeout=30)[0]] == [1, "small", 0]


def test_what_a_generator_yielded_before_it_failed():
    @ray.remote(num_returns=3)
    def two_then_fail():
        yield np.zeros(LENGTH)
        yield np.ones(LENGTH)
        raise ValueError("third")

    a, b, bad = two_then_fail.remote()
    ray.get([a, b])
    lose(b)
    assert [ray.get(b, timeout=30)[0], ray.get(a)[0]] == [1, 0]
    lose(a, b)
    assert [array[0] for array in ray.get([a, b], timeout=30)] == [0, 1]
    with pytest.raises(ValueError, match="third"):
        ray.get(bad)


def test_an_item_of_a_generator():
    @ray.remote(generator_backpressure=2)
    def items():
        for i in range(6):
            yield np.full(LENGTH, i)

    refs = list(items.remote())
    lose(refs[1], refs[4])
    assert [int(a[0]) for a in ray.get(refs, timeout=30)] == list(range(6))


def test_an_item_that_is_lost_while_its_generator_runs():
    @ray.remote
    class Gate:
        def __init__(self):
            self.is_open = False

        def open(self):
            self.is_open = True

        def passable(self):
            return self.is_open

    @ray.remote
    def items(gate):
        yield np.full(LENGTH, 0)
        while not ray.get(gate.passable.remote()):
            time.sleep(0.005)
        yield np.full(LENGTH, 1)

    gate = Gate.remote()
    ray.get(gate.passable.remote())
    generator = items.remote(gate)
    first = next(generator)
    lose(first)
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(first, timeout=0.05)
    ray.get(gate.open.remote())
    assert ray.get(first, timeout=30)[0] == 0
    assert ray.get(next(generator), timeout=30)[0] == 1


def test_await_and_futures_wait_for_a_lost_object_too():
    import asyncio

    ref = full.remote(9)
    ray.wait([ref])

    async def main():
        lose(ref)
        return (await ref)[0]

    assert asyncio.run(main()) == 9
    lose(ref)
    assert ref.future().result(timeout=30)[0] == 9


def test_a_result_of_an_actor_with_max_task_retries():
    @ray.remote(max_task_retries=1)
    class Adder:
        def __init__(self):
            self.calls = 0

        def full(self, x):
            self.calls += 1
            return np.full(LENGTH, x)

        def add(self, a, b):
            self.calls += 1
            return a + b

        def count(self):
            return self.calls

    adder = Adder.remote()
    first = adder.full.remote(1)
    second = adder.add.remote(first, 1)
    ray.wait([second])
    del first
    gc.collect()
    lose(second)
    assert ray.get(second, timeout=30)[0] == 2
    assert ray.get(adder.count.remote()) == 4  # its argument was made again too
    ray.kill(adder)
    lose(second)
    with pytest.raises((exceptions.ActorDiedError, exceptions.ObjectLostError)):
        ray.get(second, timeout=30)


# -- what cannot be made again


def test_a_result_of_an_actor_without_retries():
    @ray.remote
    class Maker:
        def full(self):
            return np.zeros(LENGTH)

    maker = Maker.remote()
    ref = maker.full.remote()
    ray.wait([ref])
    lose(ref)
    with pytest.raises(exceptions.ObjectLostError, match="set max_task_retries"):
        ray.get(ref, timeout=30)


def test_what_was_put_is_lost_for_good():
    ref = ray.put(np.zeros(LENGTH))
    lose(ref)
    for _ in range(2):
        with pytest.raises(exceptions.ObjectLostError, match=r"it was put\(\)"):
            ray.get(ref, timeout=30)


def test_a_task_without_retries_is_not_run_again():
    ref = full.options(max_retries=0).remote(1)
    ray.wait([ref])
    lose(ref)
    with pytest.raises(exceptions.ObjectLostError, match="max_retries=0"):
        ray.get(ref, timeout=30)


def test_max_retries_bounds_how_often():
    ref = full.options(max_retries=2).remote(1)
    for _ in range(2):
        ray.get(ref, timeout=30)
        lose(ref)
    ray.get(ref, timeout=30)
    lose(ref)
    with pytest.raises(
        exceptions.ObjectReconstructionFailedMaxAttemptsExceededError, match="was run 3 times"
    ):
        ray.get(ref, timeout=30)


def test_arguments_passed_by_value_that_were_large():
    ref = add.remote(np.zeros(LENGTH), 1)
    ray.wait([ref])
    lose(ref)
    with pytest.raises(exceptions.ObjectLostError, match="what is large"):
        ray.get(ref, timeout=30)


def test_an_argument_that_was_put_and_is_gone():
    big = ray.put(np.zeros(LENGTH))
    ref = add.remote(big, 1)
    ray.wait([ref])
    del big
    lose(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="an argument of add"):
        ray.get(ref, timeout=30)


def test_a_borrower_hears_why():
    @ray.remote
    def read(refs):
        return ray.get(refs[0])

    ref = ray.put(np.zeros(LENGTH))
    lose(ref)
    with pytest.raises(exceptions.ObjectLostError, match=r"it was put\(\)"):
        ray.get(read.remote([ref]), timeout=30)
    with pytest.raises(exceptions.ObjectLostError, match=r"it was put\(\)"):
        ray.get(add.remote(ref, 1), timeout=30)


def test_a_task_that_fails_when_it_runs_again():
    log = new_log()

    @ray.remote
    def once(log):
        if ray.get(log.note.remote("once")) > 1:
            raise RuntimeError("not twice")
        return np.zeros(LENGTH)

    ref = once.remote(log)
    ray.wait([ref])
    lose(ref)
    with pytest.raises(RuntimeError, match="not twice"):
        ray.get(ref, timeout=30)


def test_an_object_whose_owner_is_dead_and_whose_value_is_gone():
    @ray.remote
    class Owner:
        def make(self):
            return [full.remote(4)], os.getpid()

    owner = Owner.remote()
    (ref,), pid = ray.get(owner.make.remote())
    assert ray.get(ref, timeout=30)[0] == 4
    ray.kill(owner)
    until(lambda: pid not in [client["pid"] for client in require().store.clients()])
    assert ray.get(ref)[0] == 4  # it outlives its owner
    lose(ref)
    with pytest.raises(exceptions.OwnerDiedError, match="the process that owned it"):
        ray.get(ref, timeout=30)


# -- what it costs


def test_memory_is_freed_with_the_last_reference_though_the_spec_is_kept():
    store = require().store
    first = full.remote(1)
    second = add.remote(first, 1)
    ray.wait([second])
    identity = first.binary()
    del first
    gc.collect()
    assert not store.knows(identity)
    lose(second)
    assert ray.get(second, timeout=30)[0] == 2
    assert not store.knows(identity)


def test_specs_of_objects_nobody_holds_are_dropped():
    lineage = require().lineage
    ray.get([full.remote(i) for i in range(50)])
    gc.collect()
    lineage.purge()
    assert len(lineage) == 0
    kept = [full.remote(i) for i in range(5)]
    ray.get(kept)
    lineage.purge()
    assert len(lineage) == 5


def test_beyond_the_budget_the_oldest_specs_go():
    lineage = require().lineage
    before = lineage.bytes_max
    refs = [full.remote(i) for i in range(20)]
    ray.get(refs)
    lineage.bytes_max = 5000
    try:
        lineage.purge()
    finally:
        lineage.bytes_max = before
    lose(refs[0], refs[-1])
    assert ray.get(refs[-1], timeout=30)[0] == 19
    with pytest.raises(exceptions.ObjectReconstructionFailedLineageEvictedError, match="given up"):
        ray.get(refs[0], timeout=30)


def test_small_results_cost_no_lineage():
    lineage = require().lineage
    lineage.purge()
    before = len(lineage)
    refs = [add.remote(i, 1) for i in range(100)]
    assert ray.get(refs) == list(range(1, 101))
    assert len(lineage) == before
