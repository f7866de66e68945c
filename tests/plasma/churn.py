"""A client that does everything a client can do, in random order, for ever: the prey of the crash tests."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

import plasma
from plasma import PlasmaError, Store

#: few ids, so that clients meet at the same objects
IDS = [n.to_bytes(16, "big") for n in range(1, 49)]


def content(object_id: bytes, size: int) -> bytes:
    """What an object of that id and size holds: every reader can tell whether it is damaged."""
    pattern = object_id + size.to_bytes(8, "big")
    return (pattern * (size // len(pattern) + 1))[:size]


class Damaged(BaseException):
    """A reader saw bytes that no writer wrote."""


def check(object_id: bytes, buffer: plasma.Buffer) -> None:
    data = bytes(buffer)
    if data != content(object_id, len(data)):
        raise Damaged(f"object {object_id.hex()} of {len(data)} bytes")


class Churn:
    """One client's random walk. Errors that other clients' doings explain are expected; damage is not."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.views: list[plasma.Buffer] = []
        self.agent = store.stand_in("prey's agent")
        self.steps: list[Callable[[bytes], object]] = [
            *(self.put, self.put, self.put_containing, self.write_slowly, self.abort),
            *(self.get, self.get, self.let_go, self.delete, self.reference, self.dereference),
            *(self.declare, self.abandon, self.watch, self.message, self.read),
            *(
                self.keep,
                self.keep,
                self.unkeep,
                self.take_unneeded,
                self.drop_copy,
                self.declare_for_another,
            ),
            *(self.agent_reference, self.agent_dereference, self.renew_agent),
        ]

    def put(self, object_id: bytes) -> None:
        size = self.rng.choice([1, 100, 5000, 70_000])
        self.store.put_parts(object_id, [content(object_id, size)], referenced=self.rng.random() < 0.5)

    def put_containing(self, object_id: bytes) -> None:
        inside = [x for x in self.rng.sample(IDS, 3) if x != object_id and self.store.contains(x)]
        self.store.put_parts(object_id, [content(object_id, 300)], contained=inside, referenced=True)

    def write_slowly(self, object_id: bytes) -> None:
        allocation = self.store.create_buffer(object_id, 9000)
        with memoryview(allocation) as view:
            view[:] = content(object_id, 9000)
        allocation.seal()

    def abort(self, object_id: bytes) -> None:
        self.store.create_buffer(object_id, 3000).abort()

    def get(self, object_id: bytes) -> None:
        view = self.store.try_get(object_id)
        if view is not None:
            check(object_id, view)
            self.views.append(view)

    def let_go(self, _: bytes) -> None:
        del self.views[: len(self.views) // 2 + 1]

    def delete(self, object_id: bytes) -> None:
        self.store.delete(object_id)

    def reference(self, object_id: bytes) -> None:
        self.store.add_ref(object_id)

    def dereference(self, object_id: bytes) -> None:
        self.store.drop_ref(object_id)

    def declare(self, object_id: bytes) -> None:
        self.store.declare(object_id)

    def abandon(self, object_id: bytes) -> None:
        self.store.abandon(object_id)

    def watch(self, object_id: bytes) -> None:
        self.store.watch(object_id)

    def keep(self, object_id: bytes) -> None:
        self.agent.keep(object_id)

    def unkeep(self, object_id: bytes) -> None:
        self.agent.unkeep(object_id)

    def take_unneeded(self, _: bytes) -> None:
        for object_id in self.agent.take_unneeded(self.rng.choice([1, 256])):
            self.agent.unkeep_if_unneeded(object_id)

    def drop_copy(self, object_id: bytes) -> None:
        self.agent.drop_copy(object_id)

    def declare_for_another(self, object_id: bytes) -> None:
        owner = self.rng.choice([c["address"] for c in self.store.clients() if c["name"] != "hunter"])
        self.rng.choice([self.store, self.agent]).declare(object_id, owner)

    def agent_reference(self, object_id: bytes) -> None:
        self.agent.add_ref(object_id)

    def agent_dereference(self, object_id: bytes) -> None:
        self.agent.drop_ref(object_id)

    def renew_agent(self, _: bytes) -> None:
        if self.rng.random() < 0.1:
            self.agent.close()
            self.agent = self.store.stand_in("another")

    def message(self, object_id: bytes) -> None:
        peers = [c["address"] for c in self.store.clients() if c["address"] != self.store.address]
        sender = self.store.endpoint.sender(self.rng.choice(peers), self.rng.randrange(2))
        ticket = sender.send(object_id * self.rng.choice([1, 300]))
        if self.rng.random() < 0.2:
            sender.revoke(ticket)

    def read(self, _: bytes) -> None:
        for lane in (0, 1):
            for _sender, payload in self.store.endpoint.receive_many(lane):
                if payload[:16] not in IDS or payload != payload[:16] * (len(payload) // 16):
                    raise Damaged("a message")

    def step(self) -> None:
        with suppress(PlasmaError):
            self.rng.choice(self.steps)(self.rng.choice(IDS))


def spawn(fd: int, body: Callable[[Store], None]) -> int:
    """Forks a process that joins the store of `fd` and runs `body`. Exit code 3 stands for damage seen."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        store = Store.attach(fd, name="prey")
        body(store)
        code = 0
    except Damaged as damage:
        os.write(2, f"{damage}\n".encode())
        code = 3
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def churn_for_ever(seed: int) -> Callable[[Store], None]:
    def body(store: Store) -> None:
        walk = Churn(store, seed)
        while True:
            walk.step()

    return body
