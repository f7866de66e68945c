"""The store against models, under any order of operations: every state, and the memory itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import plasma
from plasma import ObjectStoreFullError, Store
from plasma.testing import assert_sound

IDS = [bytes([n]) * 16 for n in range(1, 8)]
#: the last is an agent
AGENT = 2
CLIENTS = st.integers(0, AGENT)
MIB = 1 << 20


class Modelled:
    """What the model knows of one object."""

    def __init__(self, state: int) -> None:
        self.state = state
        self.refs = [0, 0, 0]
        self.referenced = False
        self.promised_by: int | None = None
        self.written_by: int | None = None
        self.given_to: int | None = None
        self.contained: set[bytes] = set()
        self.kept = False
        self.used = False


class Lives(RuleBasedStateMachine):
    """Two clients and an agent, seven ids, every operation that changes a state. Views are taken and dropped
    at once: what they keep alive is the business of the model in test_store."""

    @initialize()
    def open(self):
        self.store = Store.create(8 * MIB, max_objects=512, max_clients=4)
        self.clients = [self.store, Store.attach(self.store.fd), self.store.stand_in()]
        self.agent = self.clients[AGENT]
        self.model: dict[bytes, Modelled] = {}
        self.writing: dict[bytes, plasma.Allocation] = {}
        self.news: set[bytes] = set()

    def parents(self, object_id):
        return any(object_id in one.contained for one in self.model.values())

    def held(self, object_id):
        one = self.model[object_id]
        return any(one.refs) or self.parents(object_id) or one.kept

    def used_for_a_moment(self, object_id, who):
        """A client held it and let go."""
        if object_id in self.model and who != AGENT:
            self.model[object_id].used = True
        self.settle()

    def settle(self):
        """Frees in the model what nothing keeps, and finds what is no longer in use."""
        again = True
        while again:
            again = False
            for object_id, one in list(self.model.items()):
                kept = self.held(object_id)
                gone = one.state == plasma.SEALED and one.referenced and not kept
                gone = gone or (one.state in (plasma.PENDING, plasma.LOST) and not kept)
                if gone:
                    del self.model[object_id]
                    again = True
        for object_id, one in self.model.items():
            writer = one.written_by if one.state == plasma.CREATED else None
            used = any(one.refs[:AGENT]) or self.parents(object_id) or writer in (0, 1)
            if one.kept and one.used and not used:
                self.news.add(object_id)
            one.used = used
        self.news &= self.model.keys()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS, owner=st.sampled_from([None, 0, 1, AGENT]),
          contained=st.sets(st.sampled_from(IDS), max_size=2))  # fmt: skip
    def create(self, object_id, who, owner, contained):
        one = self.model.get(object_id)
        inside = sorted(contained - {object_id})
        arguments = {"contained": inside, "owner": 0 if owner is None else self.clients[owner].address}
        try:
            allocation = self.clients[who].create_buffer(object_id, 100, **arguments)
        except plasma.ObjectExistsError:
            assert one is not None and one.state != plasma.PENDING
            return
        except plasma.ObjectNotFoundError:
            assert not all(child in self.model for child in inside)
            if one is not None:
                one.referenced = self.held(object_id)
            self.used_for_a_moment(object_id, min(who, AGENT if owner is None else owner))
            return
        assert (one is None or one.state == plasma.PENDING) and all(child in self.model for child in inside)
        one = self.model.setdefault(object_id, Modelled(plasma.CREATED))
        one.state, one.written_by, one.given_to, one.contained = plasma.CREATED, who, None, set(inside)
        if owner is not None:
            one.referenced = True
            if not one.refs[owner]:
                one.refs[owner], one.given_to = 1, owner
        for child in inside:
            self.model[child].referenced = True
        self.writing[object_id] = allocation
        self.settle()

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def seal(self, data):
        object_id = data.draw(st.sampled_from(sorted(self.writing)))
        self.writing.pop(object_id).seal()
        self.model[object_id].state = plasma.SEALED
        self.settle()

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), by_dropping=st.booleans())
    def abort(self, data, by_dropping):
        object_id = data.draw(st.sampled_from(sorted(self.writing)))
        allocation = self.writing.pop(object_id)
        if not by_dropping:
            allocation.abort()
        del allocation
        one = self.model[object_id]
        one.contained = set()
        if one.given_to is not None and one.refs[one.given_to]:
            one.refs[one.given_to] -= 1
        one.referenced = self.held(object_id)
        one.state = plasma.PENDING
        self.settle()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS, owner=CLIENTS)
    def declare(self, object_id, who, owner):
        self.clients[who].declare(object_id, self.clients[owner].address)
        one = self.model.setdefault(object_id, Modelled(plasma.PENDING))
        if one.state == plasma.PENDING or not one.refs[owner]:
            one.refs[owner] += 1
        elif one.given_to == owner:
            one.given_to = None  # its own from now on: an abort doesn't take it back
        one.referenced = True
        self.used_for_a_moment(object_id, AGENT)

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def abandon(self, object_id, who):
        one = self.model.get(object_id)
        pending = one is not None and one.state == plasma.PENDING
        assert self.clients[who].abandon(object_id) == pending
        if pending:
            one.state = plasma.LOST

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def take_ref(self, object_id, who):
        state = self.model[object_id].state if object_id in self.model else plasma.ABSENT
        assert self.clients[who].take_ref(object_id) == state
        if object_id in self.model:
            self.model[object_id].refs[who] += 1
            self.model[object_id].referenced = True
            self.settle()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def drop_ref(self, object_id, who):
        one = self.model.get(object_id)
        try:
            self.clients[who].drop_ref(object_id)
        except plasma.NotOwnerError:
            assert one is None or not one.refs[who]
            return
        one.refs[who] -= 1
        self.settle()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def delete(self, object_id, who):
        one = self.model.get(object_id)
        if one is not None and self.held(object_id):
            return  # its id stays taken until they are gone: test_store
        try:
            self.clients[who].delete(object_id)
        except plasma.ObjectNotFoundError:
            assert one is None
        except plasma.ObjectNotSealedError:
            assert one is not None and one.state != plasma.SEALED
        else:
            assert one is not None and one.state == plasma.SEALED
            del self.model[object_id]
            self.settle()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS, owner=CLIENTS)
    def lose_and_renew(self, object_id, who, owner):
        """What is held and has lost its data can be promised once more; all who hold it keep it."""
        one = self.model.get(object_id)
        address = self.clients[owner].address
        if one is not None and one.state == plasma.SEALED and self.held(object_id):
            self.clients[who].delete(object_id)
            assert self.store.state(object_id) == plasma.ABSENT and self.store.knows(object_id)
        elif one is None or one.state != plasma.LOST:
            assert not self.clients[who].renew(object_id, address)
            assert self.store.knows(object_id) == (one is not None)
            return
        assert self.clients[who].renew(object_id, address)
        one.state, one.contained, one.given_to, one.referenced = plasma.PENDING, set(), None, True
        one.refs[owner] = one.refs[owner] or 1
        self.settle()

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def get(self, object_id, who):
        one = self.model.get(object_id)
        try:
            buffer = self.clients[who].try_get(object_id)
        except plasma.ObjectLostError:
            assert one is not None and one.state == plasma.LOST
        else:
            assert (buffer is not None) == (one is not None and one.state == plasma.SEALED)
            if buffer is not None:
                buffer.release()
                self.used_for_a_moment(object_id, who)

    @rule(object_id=st.sampled_from(IDS), who=CLIENTS)
    def wait_in_vain(self, object_id, who):
        one = self.model.get(object_id)
        final = one is not None and one.state in (plasma.SEALED, plasma.LOST)
        expected = ([object_id], []) if final else ([], [object_id])
        assert self.clients[who].wait([object_id], 1, 0) == expected
        if not final:
            self.used_for_a_moment(object_id, who)

    # -- the agent

    @rule(object_id=st.sampled_from(IDS))
    def keep(self, object_id):
        one = self.model.setdefault(object_id, Modelled(plasma.PENDING))
        assert self.agent.keep(object_id) == one.state
        one.kept = one.referenced = True

    @rule(object_id=st.sampled_from(IDS), only_unneeded=st.booleans())
    def unkeep(self, object_id, only_unneeded):
        one = self.model.get(object_id)
        try:
            done = self.agent.unkeep_if_unneeded(object_id) if only_unneeded else self.agent.unkeep(object_id)
        except plasma.NotOwnerError:
            assert one is None or not one.kept
            return
        assert done == (not one.used if only_unneeded else None)
        if done is not False:
            one.kept = False
            self.news.discard(object_id)
            self.settle()

    @rule(object_id=st.sampled_from(IDS))
    def drop_copy(self, object_id):
        one = self.model.get(object_id)
        try:
            done = self.agent.drop_copy(object_id)
        except plasma.NotOwnerError:
            assert one is None or not one.kept
            return
        assert done == (one.state == plasma.SEALED)
        if done:
            one.state, one.contained, one.given_to = plasma.PENDING, set(), None
            self.settle()

    @rule()
    def take_unneeded(self):
        told = self.agent.take_unneeded()
        assert len(told) == len(set(told))
        assert set(told) == {object_id for object_id in self.news if not self.model[object_id].used}
        self.news.clear()

    @invariant()
    def the_store_agrees(self):
        if hasattr(self, "store"):
            assert_sound(self.store)
            states = {object_id: self.store.state(object_id) for object_id in IDS}
            assert {k: v for k, v in states.items() if v} == {k: one.state for k, one in self.model.items()}
            for object_id, one in self.model.items():
                assert self.store.is_needed(object_id) == one.used

    def teardown(self):
        if hasattr(self, "store"):
            self.writing.clear()
            for client in reversed(self.clients):
                client.close()


class Memory(RuleBasedStateMachine):
    """The allocator through the store: nothing overlaps, nothing is lost, and what is said to fit fits."""

    @initialize()
    def open(self):
        self.store = Store.create(MIB, max_objects=512, max_clients=2)
        self.extents: dict[bytes, tuple[int, int]] = {}
        self.exposed: dict[bytes, plasma.Allocation] = {}
        self.number = 0

    def put(self, size, exposed):
        self.number += 1
        object_id = self.number.to_bytes(16, "big")
        if exposed:
            self.exposed[object_id] = self.store.create_buffer(object_id, size)
        else:
            self.store.put_parts(object_id, [bytes(size)], referenced=True)
        info = next(info for info in self.store.list() if info.object_id == object_id)
        assert info.offset % (4096 if exposed else 64) == 0 and info.allocated_bytes >= size
        self.extents[object_id] = (info.offset, info.allocated_bytes)

    @rule(size=st.one_of(st.integers(0, 3000), st.integers(0, 400_000)), exposed=st.booleans())
    def allocate(self, size, exposed):
        try:
            self.put(size, exposed)
        except ObjectStoreFullError:
            # None of the gaps holds it.
            edges = sorted(self.extents.values())
            ends = [0, *(at + length for at, length in edges)]
            starts = [*(at for at, _ in edges), MIB]
            unit = 4096 if exposed else 64
            need = max(1, -(-size // unit)) * unit
            used = sum(length for _, length in edges)
            gaps = [start - -(-end // unit) * unit for end, start in zip(ends, starts, strict=True)]
            assert used + need > MIB or all(gap < need for gap in gaps), (size, gaps)

    @precondition(lambda self: self.extents)
    @rule(data=st.data())
    def free(self, data):
        object_id = data.draw(st.sampled_from(sorted(self.extents)))
        del self.extents[object_id]
        if object_id in self.exposed:
            self.exposed.pop(object_id).abort()
        else:
            self.store.delete(object_id)
            self.store.drop_ref(object_id)

    @precondition(lambda self: self.extents)
    @rule(data=st.data())
    def an_exposed_object_fits_where_one_was(self, data):
        if self.exposed:
            object_id = data.draw(st.sampled_from(sorted(self.exposed)))
            size = len(self.exposed[object_id])
            del self.extents[object_id]
            self.exposed.pop(object_id).abort()
            self.put(size, True)

    @rule()
    def the_largest_stretch_can_be_had(self):
        largest = self.store.stats()["largest_free_bytes"]
        if largest:
            self.put(largest, False)
            self.store.delete(self.number.to_bytes(16, "big"))
            self.store.drop_ref(self.number.to_bytes(16, "big"))
            self.extents.popitem()

    @invariant()
    def sound(self):
        if not hasattr(self, "store"):
            return
        assert_sound(self.store)
        edges = sorted(self.extents.values())
        assert all(at + length <= following for (at, length), (following, _) in pairwise(edges))
        assert self.store.audit().bytes_used == sum(length for _, length in edges)

    def teardown(self):
        if hasattr(self, "store"):
            self.exposed.clear()
            self.store.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=80, stateful_step_count=40)
TestMemory = Memory.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=40)
