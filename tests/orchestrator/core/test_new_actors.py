"""An actor's handle may arrive somewhere before the node has heard of the actor."""

from __future__ import annotations

import time
from pathlib import Path

import orchestrator as ray
from tests.stopping import stopped


@ray.remote
class Echo:
    def say(self, value):
        return value


@ray.remote
def ask(actor, path):
    Path(path).touch()
    return ray.get(actor.say.remote("hello"))


def test_a_worker_asks_for_an_actor_the_node_has_not_heard_of(session, tmp_path):
    """The news of the actor and the worker's question wait side by side in front of a node that is slow."""
    for number in range(4):
        ray.get([ask.remote(Echo.remote(), tmp_path / f"warm {number} {place}") for place in range(2)])
        path = tmp_path / f"begun {number}"
        with stopped(session.node_pid):
            # Goes to a worker that is lent already; if that was given back just now it begins later.
            ref = ask.remote(Echo.remote(), path)
            for _ in range(100):
                time.sleep(0.005)
                if path.exists():
                    break
        assert ray.get(ref) == "hello"
