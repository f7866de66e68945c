"""Who holds what, in real processes against a model: objects live while anybody holds them, and no longer.

References are made by the driver and by actors, travel between them, go into objects and come out of them,
and are dropped; and the processes that made or hold them are killed.
"""

from __future__ import annotations

import gc
import os
import pickle
import time

import numpy as np
import psutil
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import orchestrator as ray
from orchestrator.core.runtime import require
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")

#: Larger than what travels in a message.
LENGTH = 20_000
DRIVER = 0
PLACES = st.integers(0, 3)
KINDS = st.sampled_from(["small", "large", "task", "small task"])


@ray.remote
def produce(name, length):
    return np.full(length, name) if length else name


class Holder:
    """References by name, in one process."""

    def __init__(self):
        self.refs = {}

    def make(self, name, kind):
        if kind.endswith("task"):
            self.refs[name] = produce.remote(name, LENGTH if kind == "task" else 0)
            ray.wait([self.refs[name]])
        else:
            self.refs[name] = ray.put(name if kind == "small" else np.full(LENGTH, name))
        return self.refs[name].binary()

    def take(self, names, refs):
        self.refs.update(zip(names, refs, strict=True))

    def give(self, names):
        return [self.refs[name] for name in names]

    def wrap(self, name, inside):
        self.refs[name] = ray.put([self.refs[one] for one in inside])
        return self.refs[name].binary()

    def unwrap(self, name, inside):
        self.take(inside, ray.get(self.refs[name], timeout=30))

    def drop(self, name):
        del self.refs[name]

    def read(self, name):
        value = ray.get(self.refs[name], timeout=30)
        return len(value) if isinstance(value, list) else int(np.max(value))


RemoteHolder = ray.remote(num_cpus=0)(Holder)


class Modelled:
    """What the model knows of one object."""

    def __init__(self, identity, kind, inside=()):
        self.identity = identity
        self.kind = kind
        self.inside = tuple(inside)
        #: small values stay in their owner's heap until their reference travels
        self.in_table = kind in ("large", "task", "wrapper")


class References(RuleBasedStateMachine):
    """The driver and three actors."""

    @initialize()
    def start(self):
        self.names = iter(range(1, 1_000_000))
        self.local = Holder()
        self.actors = {place: RemoteHolder.remote() for place in (1, 2, 3)}
        self.objects: dict[int, Modelled] = {}
        self.held: dict[int, set[int]] = {place: set() for place in range(4)}

    def call(self, place, method, *args):
        if place == DRIVER:
            return getattr(self.local, method)(*args)
        return ray.get(getattr(self.actors[place], method).remote(*args), timeout=30)

    def alive(self):
        """The names of all objects that somebody holds, or that are inside one that somebody holds."""
        found, todo = set(), [name for held in self.held.values() for name in held]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.objects[name].inside
        return found

    def one_of(self, data, place, kind=None):
        names = sorted(n for n in self.held[place] if kind is None or self.objects[n].kind == kind)
        return data.draw(st.sampled_from(names)) if names else None

    # -- what can happen

    @rule(place=PLACES, kind=KINDS)
    def make(self, place, kind):
        name = next(self.names)
        self.objects[name] = Modelled(self.call(place, "make", name, kind), kind)
        self.held[place].add(name)

    @rule(data=st.data(), source=PLACES, to=PLACES)
    def pass_on(self, data, source, to):
        name = self.one_of(data, source)
        if name is None or source == to:
            return
        if source == DRIVER:
            self.call(to, "take", [name], self.local.give([name]))
        elif to == DRIVER:
            self.local.take([name], self.call(source, "give", [name]))
        else:
            given = self.actors[source].give.remote([name])
            self.call(to, "take", [name], given)
        self.objects[name].in_table = True
        self.held[to].add(name)

    @rule(data=st.data(), place=PLACES)
    def wrap(self, data, place):
        inside = sorted(self.held[place])
        if not inside:
            return
        inside = data.draw(st.lists(st.sampled_from(inside), min_size=1, max_size=3, unique=True))
        name = next(self.names)
        self.objects[name] = Modelled(self.call(place, "wrap", name, inside), "wrapper", inside)
        for one in inside:
            self.objects[one].in_table = True
        self.held[place].add(name)

    @rule(data=st.data(), place=PLACES)
    def unwrap(self, data, place):
        name = self.one_of(data, place, "wrapper")
        if name is not None:
            inside = self.objects[name].inside
            self.call(place, "unwrap", name, inside)
            self.held[place].update(inside)

    @rule(data=st.data(), place=PLACES)
    def drop(self, data, place):
        name = self.one_of(data, place)
        if name is not None:
            self.call(place, "drop", name)
            self.held[place].remove(name)

    @rule(data=st.data(), place=PLACES)
    def read(self, data, place):
        name = self.one_of(data, place)
        if name is not None:
            one = self.objects[name]
            assert self.call(place, "read", name) == (len(one.inside) if one.kind == "wrapper" else name)

    @precondition(lambda self: any(self.held[place] for place in (1, 2, 3)))
    @rule(place=st.integers(1, 3))
    def kill(self, place):
        """What it owned and others hold lives on; what only it held is freed."""
        ray.kill(self.actors[place])
        self.actors[place] = RemoteHolder.remote()
        self.held[place] = set()
        knows = require().store.knows
        gone = [one.identity for name, one in self.objects.items() if name not in self.alive()]
        while any(map(knows, gone)):
            time.sleep(0.002)

    # -- what holds at every moment

    @invariant()
    def exactly_what_is_held_exists(self):
        if not hasattr(self, "held"):
            return
        alive = self.alive()
        knows = require().store.knows
        wrong = {
            name: (one.kind, sorted(place for place in self.held if name in self.held[place]))
            for name, one in self.objects.items()
            if knows(one.identity) != (name in alive and one.in_table)
        }
        assert not wrong
        for name in list(self.objects.keys() - alive):
            del self.objects[name]

    def teardown(self):
        if not hasattr(self, "held"):
            return
        for actor in self.actors.values():
            ray.kill(actor)
        identities = [one.identity for one in self.objects.values()]
        del self.local, self.actors
        gc.collect()
        while any(map(require().store.knows, identities)):
            time.sleep(0.002)
        audit = require().store.audit()
        assert audit.ok, audit.problems


def test_objects_live_exactly_as_long_as_somebody_holds_them():
    run_state_machine_as_test(
        References,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # with real processes shrinking takes minutes
        ),
    )


def test_ten_thousand_references_in_one_object():
    knows = require().store.knows
    refs = [ray.put(i) for i in range(10_000)]
    outer = ray.put(refs)
    first, last = refs[0].binary(), refs[-1].binary()
    del refs
    gc.collect()
    assert knows(first) and knows(last)
    inner = ray.get(outer)
    assert ray.get(inner) == list(range(10_000))
    del inner, outer
    gc.collect()
    assert not knows(first) and not knows(last)


def test_a_reference_pickled_out_of_sight_lives_as_long_as_its_process():
    knows = require().store.knows
    ref = ray.put(np.ones(LENGTH))
    identity = ref.binary()

    @ray.remote
    class Pickler:
        def pickle(self, refs):
            return pickle.dumps(refs[0]), os.getpid()

    pickler = Pickler.remote()
    blob, _ = ray.get(pickler.pickle.remote([ref]))
    del ref
    gc.collect()
    assert ray.get(pickle.loads(blob)).sum() == LENGTH
    gc.collect()
    assert knows(identity)
    ray.kill(pickler)
    until(lambda: not knows(identity))
    with pytest.raises(ray.exceptions.ObjectLostError, match=r"no longer exists|is lost"):
        ray.get(pickle.loads(blob), timeout=30)


def test_what_a_reference_costs():
    count = 50_000
    ray.get([produce.remote(i, 0) for i in range(count)])
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    refs = [produce.remote(i + 1000, 0) for i in range(count)]
    ray.wait(refs, num_returns=count)
    gc.collect()
    assert (process.memory_info().rss - before) / count <= 500
    assert ray.get(refs[-1]) == count + 999


def test_memory_stays_flat_over_many_tasks():
    def rounds(count):
        for _ in range(count):
            ray.get([produce.remote(i, 0) for i in range(2000)])
        gc.collect()
        return psutil.Process().memory_info().rss

    rounds(10)
    first = rounds(5)
    assert rounds(25) - first < 4 << 20
