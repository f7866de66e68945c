"""Clients that come and go: nothing grows, no slot is lost, nobody is mistaken for another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from plasma import PeerDiedError, Store, TooManyClientsError
from plasma.testing import temporary_store

A = b"\xa0" * 16


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store(max_clients=16) as store:
        yield store


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:")


def test_ten_thousand_clients_come_and_go_and_nothing_grows(store):
    """Every one of them does what clients do, and leaves things for its leaving to clean up."""
    store.put_parts(A, [b"shared"], referenced=True)

    def live(number: int) -> int:
        with Store.attach(store.fd, name=str(number)) as client:
            client.add_ref(A)
            client.watch(number.to_bytes(16, "big"))
            if number % 10 == 0:
                client.put_parts(b"%016d" % number, [b"x"], referenced=True)
                client.endpoint.sender(store.address).send(b"hello")
                assert store.endpoint.receive() == (client.address, b"hello")
            return client.address

    addresses = {live(number) for number in range(100)}
    assert store.endpoint.receive() is None  # lets go of the channels that were closed
    before = descriptors(), mappings(), store.audit(), store.stats()
    addresses |= {live(number) for number in range(100, 10_000)}
    assert store.endpoint.receive() is None
    after = descriptors(), mappings(), store.audit(), store.stats()
    assert len(addresses) == 10_000, "an address never means two clients"
    assert before[:3] == after[:3]
    assert after[3]["clients_ever"] == 10_001
    for grows in ("touched_bytes", "holds", "objects", "clients"):
        assert after[3][grows] == before[3][grows], grows


def test_hundreds_of_processes_come_and_are_killed(store):
    """Each holds something when it dies; at any time there are as many as slots."""
    store.put_parts(A, [b"shared"], referenced=True)
    go, told = os.pipe()

    def body(number: int) -> None:
        client = Store.attach(store.fd)
        view = client.get(A, 0)
        client.add_ref(A)
        client.put_parts(b"%016d" % number, [bytes(5000)], referenced=True)
        client.declare(b"promise %8d" % number)
        os.write(told, b"x")
        if number % 2:
            signal.pause()
        del view
        client.close()

    herd: list[int] = []
    try:
        for number in range(300):
            pid = os.fork()
            if not pid:
                try:
                    body(number)
                finally:
                    os._exit(0)
            herd.append(pid)
            os.read(go, 1)
            if len(herd) == 10:
                while herd:
                    os.kill(herd[-1], signal.SIGKILL)
                    os.waitpid(herd.pop(), 0)
                store.reap()
    finally:
        for pid in herd:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(go)
        os.close(told)
    audit = store.audit()
    assert audit.ok and (audit.clients, audit.objects, audit.pins, audit.refs) == (1, 1, 0, 1), audit


def test_slots_survive_closing_and_reaping_at_the_same_time(store):
    """A reaper may look at a slot in the moment in which its client gives it back and another takes it."""
    pids = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                with Store.attach(store.fd) as client:
                    for _ in range(1500):
                        Store.attach(store.fd).close()
                        client.reap()
                code = 0
            except BaseException as error:
                os.write(2, f"{error!r}\n".encode())
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0, 0, 0]
    guests = [Store.attach(store.fd) for _ in range(15)]
    assert len({guest.address & 0xFFFF for guest in guests}) == 15, "a slot was given to two clients"
    with pytest.raises(TooManyClientsError):
        Store.attach(store.fd)
    for guest in guests:
        guest.close()


def test_an_address_is_not_inherited_by_the_next_client_of_its_slot(store):
    first = Store.attach(store.fd)
    address = first.address
    first.close()
    with Store.attach(store.fd) as second:
        assert second.address & 0xFFFF == address & 0xFFFF and second.address != address
        with pytest.raises(PeerDiedError):
            store.endpoint.sender(address)
        with pytest.raises(PeerDiedError):
            store.put_parts(A, [b"x"], owner=address)
        assert not store.reap_client(address)


@pytest.mark.parametrize("address", [0, 1, 0xFFFF, (1 << 64) - 1, (7 << 16) | 1])
def test_addresses_that_nobody_has(store, address):
    with pytest.raises(PeerDiedError):
        store.endpoint.sender(address)
    assert not store.reap_client(address)
