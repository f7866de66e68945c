"""Actors that wait for each other in a circle hear of it instead of hanging."""

from __future__ import annotations

import pytest

import orchestrator as ray
from orchestrator.exceptions import DeadlockError, GetTimeoutError

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Peer:
    def __init__(self):
        self.other = None

    def meet(self, boxed):
        self.other = boxed[0]

    def ping(self):
        return "pong"

    def ask_other(self):
        return ray.get(self.other.ping.remote())

    def ask_back(self, depth=1):
        """Ask the other one to ask this one."""
        return ray.get(self.other.ask_other.remote())

    def ask_itself(self, timeout=None):
        return ray.get(ray.get_runtime_context().current_actor.ping.remote(), timeout=timeout)

    def ask_through_a_task(self):
        me = ray.get_runtime_context().current_actor
        return ray.get(ask.remote([me]))


@ray.remote
def ask(boxed):
    return ray.get(boxed[0].ping.remote())


def test_an_actor_that_waits_for_itself():
    peer = Peer.remote()
    with pytest.raises(DeadlockError, match=r"Peer\.ask_itself.*waits for.*Peer\.ask_itself"):
        ray.get(peer.ask_itself.remote(), timeout=20)
    assert ray.get(peer.ping.remote(), timeout=20) == "pong", "it is usable afterwards"


def test_two_actors_that_wait_for_each_other():
    one, other = Peer.remote(), Peer.remote()
    ray.get([one.meet.remote([other]), other.meet.remote([one])])
    with pytest.raises(DeadlockError, match=r"ask_back.*waits for.*ask_other|ask_other.*ask_back"):
        ray.get(one.ask_back.remote(), timeout=20)
    assert ray.get([one.ping.remote(), other.ping.remote()], timeout=20) == ["pong"] * 2


def test_a_task_between_them():
    peer = Peer.remote()
    with pytest.raises(DeadlockError, match="ask"):
        ray.get(peer.ask_through_a_task.remote(), timeout=20)
    assert ray.get(peer.ping.remote(), timeout=20) == "pong"


def test_a_wait_with_a_limit_ends_by_itself():
    peer = Peer.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(peer.ask_itself.remote(timeout=1.5), timeout=20)


def test_who_serves_several_calls_at_a_time_is_in_no_circle():
    @ray.remote
    class Async:
        async def ping(self):
            return "pong"

        async def ask_itself(self):
            return await ray.get_runtime_context().current_actor.ping.remote()

    assert ray.get(Async.remote().ask_itself.remote(), timeout=20) == "pong"
    threaded = Peer.options(max_concurrency=2).remote()
    assert ray.get(threaded.ask_itself.remote(), timeout=20) == "pong"


def test_a_long_chain_is_no_circle(tmp_path):
    """Both peers wait for more than the moment after which the node hears of it."""
    import time

    @ray.remote
    class Slow:
        def ping(self):
            while not (tmp_path / "go").exists():
                time.sleep(0.005)
            return "slow"

    one, slow = Peer.remote(), Slow.remote()
    ray.get(one.meet.remote([slow]))
    two = Peer.remote()
    ray.get(two.meet.remote([one]))
    asked = two.ask_back.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(asked, timeout=3)
    (tmp_path / "go").touch()
    assert ray.get(asked, timeout=20) == "slow"
