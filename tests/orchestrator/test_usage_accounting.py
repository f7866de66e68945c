"""What objects cost while they are there, and that they cost nothing afterwards."""

from __future__ import annotations

import gc
import sys
import tracemalloc

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core import runtime as runtimes
from plasma import Store
from plasma import object_id as ids

BLOCK = [1, 2, 3]
LARGE = np.zeros(20_000)


@pytest.fixture
def store(session):
    return runtimes.require().store


@ray.remote
def identity(value):
    return value


def test_rounds_of_put_and_drop_return_the_store_to_its_baseline(session, store):
    ray.put(LARGE)
    baseline = store.stats()
    for _ in range(100_000):
        ray.put(BLOCK)
    for _ in range(5_000):
        ray.put(LARGE)
    after = store.stats()
    for name in ("objects", "objects_referenced", "used_bytes"):
        assert after[name] <= baseline[name], name
    assert store.audit().ok


def test_a_reference_costs_the_driver_little(session):
    count = 2000
    for make in (lambda: ray.put([1, 2]), lambda: identity.remote(None)):
        ray.get(make())
        gc.collect()
        tracemalloc.start()
        try:
            begin = tracemalloc.get_traced_memory()[0]
            refs = [make() for _ in range(count)]
            ray.wait(refs, num_returns=count)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - begin - sys.getsizeof(refs)) / count
        finally:
            tracemalloc.stop()
        assert each <= 500


def test_a_hot_object_has_no_price_for_being_hot(store):
    """The work to find one holder among a thousand is that of a look into the shorter of two lists."""
    hot = ids.new()
    store.put_parts(hot, [b"hot"], referenced=True)
    holders = [Store.attach(store.fd) for _ in range(500)]
    try:
        for holder in holders:
            assert holder.add_ref(hot)
        for holder in holders:
            holder.drop_ref(hot)
    finally:
        for holder in holders:
            holder.close()
    store.drop_ref(hot)
    assert not store.contains(hot)


def test_what_a_reference_tells(session):
    first, second = ray.put(1), ray.put(2)
    assert bytes.fromhex(first.hex()) == first.binary()
    assert not first.is_nil()
    assert first != second and hash(first) == hash(identity_of(first))
    assert first.owner_address() == second.owner_address()
    elsewhere = ray.get(ray.remote(lambda: [ray.put(1)]).remote())[0]
    assert elsewhere.owner_address() != first.owner_address()
    assert first.job_id() == elsewhere.job_id()
    assert first.call_site() == ""
    assert first.task_id() != second.task_id()


def identity_of(ref):
    return ray.get(ray.put([ref]))[0]
