"""`wait`: in a loop over many references, each round gives the same as if it were the first."""

from __future__ import annotations

import gc
import pickle
import random

import pytest

import orchestrator as ray
from orchestrator.api.waiting import WATCH_MIN, Rest
from orchestrator.util.synchronization import Event

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def same(value):
    return value


@ray.remote(num_cpus=0)
def after(event, value):
    event.wait()
    return value


def many(count=2 * WATCH_MIN):
    refs = [same.remote(number) for number in range(count)]
    ray.get(refs)
    return refs


class TestALoop:
    def test_over_ten_thousand_one_by_one(self):
        rest = [same.remote(number) for number in range(10_000)]
        seen = []
        while rest:
            (ref,), rest = ray.wait(rest)
            seen.append(ray.get(ref))
        assert sorted(seen) == list(range(10_000))

    def test_ready_ones_come_in_the_order_of_the_list(self):
        refs = many()
        rest, seen = refs, []
        chance = random.Random(0)
        while rest:
            ready, rest = ray.wait(rest, num_returns=chance.randint(1, min(len(rest), 9)))
            seen += ready
            assert rest == refs[len(seen) :]
        assert seen == refs

    def test_one_that_is_late_stays_where_it_was(self):
        gate = Event()
        refs = [after.remote(gate, "late"), *many()]
        ready, rest = ray.wait(refs, num_returns=3)
        assert ready == refs[1:4]
        ready, rest = ray.wait(rest, num_returns=2)
        assert (ready, rest[0]) == (refs[4:6], refs[0])
        ready, rest = ray.wait(rest, num_returns=len(rest), timeout=0.05)
        assert rest == refs[:1]
        gate.set()
        assert ray.wait(rest) == (refs[:1], [])

    def test_what_becomes_ready_between_two_rounds_is_known_in_the_second(self):
        gate = Event()
        late = after.remote(gate, "late")
        rest = [late, *many()]
        _, rest = ray.wait(rest)
        gate.set()
        ray.get(late)
        assert ray.wait(rest)[0] == [late]

    def test_a_round_that_finds_nothing_gives_the_same_list(self):
        gate = Event()
        refs = [after.remote(gate, number) for number in range(WATCH_MIN + 1)]
        for _ in range(2):
            ready, rest = ray.wait(refs, timeout=0)
            assert (ready, rest) == ([], refs)
            ready, rest = ray.wait(rest, timeout=0)
            assert (ready, rest) == ([], refs)
        gate.set()
        assert ray.wait(rest, num_returns=len(rest)) == (refs, [])


class TestTheRest:
    def test_it_is_a_list(self):
        refs = many()
        _, rest = ray.wait(refs)
        assert type(rest) is Rest
        assert isinstance(rest, list)
        assert rest == refs[1:]
        assert type(rest + refs) is list
        assert type(pickle.loads(pickle.dumps(Rest([1, 2], rest.watch)))) is list

    @pytest.mark.parametrize(
        "change",
        [
            lambda rest, ref: rest.append(ref),
            lambda rest, ref: rest.insert(0, ref),
            lambda rest, ref: rest.__setitem__(0, ref),
            lambda rest, ref: rest.__iadd__([ref]),
            lambda rest, ref: rest.extend([ref]),
        ],
    )
    def test_one_that_was_added_is_waited_for(self, change):
        _, rest = ray.wait(many())
        new = same.remote("new")
        change(rest, new)
        while rest and new in rest:
            ready, rest = ray.wait(rest)
        assert ready == [new]

    @pytest.mark.parametrize(
        "change",
        [
            lambda rest: rest.pop(0),
            lambda rest: rest.remove(rest[0]),
            lambda rest: rest.__delitem__(0),
        ],
    )
    def test_one_that_was_removed_is_not_waited_for(self, change):
        refs = many()
        _, rest = ray.wait(refs)
        change(rest)
        assert ray.wait(rest)[0] == [refs[2]]

    def test_it_can_be_put_into_another_order(self):
        refs = many()
        _, rest = ray.wait(refs)
        rest.reverse()
        assert ray.wait(rest)[0] == [refs[-1]]

    def test_what_is_wrong_with_a_changed_one_is_found(self):
        _, rest = ray.wait(many())
        rest.append(rest[0])
        with pytest.raises(ValueError, match="each reference once"):
            ray.wait(rest)
        rest[-1] = 3
        with pytest.raises(TypeError, match="int"):
            ray.wait(rest)
        with pytest.raises(ValueError, match="num_returns must be between"):
            ray.wait(rest[:-1], num_returns=0)

    def test_an_old_one_can_be_waited_for_again(self):
        refs = many()
        _, rest = ray.wait(refs)
        ray.wait(rest)
        assert ray.wait(rest)[0] == [refs[1]]

    def test_it_keeps_nothing_alive_that_its_owner_has_let_go(self):
        gate = Event()
        late = after.remote(gate, "late")
        _, rest = ray.wait([late, *many()])
        del rest
        gc.collect()
        assert not late._entry.callbacks
        gate.set()
        assert ray.get(late) == "late"
