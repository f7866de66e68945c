"""Objects in the store, and how they are lost."""

from __future__ import annotations

import numpy as np

import orchestrator as ray
from orchestrator.core.runtime import require

#: Larger than what travels in a message, so it lies in the store.
LENGTH = 50_000


def lose(*refs):
    """Make the objects' data go away, as a damaged file would."""
    for ref in refs:
        require().store.delete(ref.binary())


def in_store(ref):
    return require().store.contains(ref.binary())


@ray.remote
def full(x):
    return np.full(LENGTH, x, dtype=np.int64)


@ray.remote
def add(a, b):
    return a + b
