"""Fetching from a source that goes away."""

from __future__ import annotations

import gc
import weakref

import grpc
import pytest

from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import End
from orchestrator.transfer.fetching import Attempt, Fetcher
from orchestrator.transfer.landing import Landing
from orchestrator.transfer.security import Security


class BrokenCall(grpc.RpcError):
    """As gRPC's own: the call is what is raised."""

    def initial_metadata(self):
        raise self

    def cancel(self):
        pass


class Peer:
    """A source that breaks off each stream, and has no direct connections."""

    address = NodeAddress(2, "127.0.0.1", 1)

    def open_data(self):
        return 0, b""

    def pull(self, request):
        return BrokenCall("the node is gone")


class Memory(bytearray):
    """An allocation, as far as anybody looks."""

    fresh = False


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


def test_memory_of_an_object_that_stopped_coming_is_given_back_at_once(no_collector, monkeypatch):
    fetcher = Fetcher(lambda: 1, Security(None))
    monkeypatch.setattr(fetcher._peers, "get", lambda address: Peer())
    memory = Memory(100)
    given_back = weakref.ref(memory)
    landing = Landing(b"o" * 16, memory)
    del memory
    outcome = fetcher.fetch(NodeAddress(2, "127.0.0.1", 1), landing, Attempt(0.0))
    assert outcome.end is End.BROKEN
    del landing
    assert given_back() is None
    fetcher.close()
