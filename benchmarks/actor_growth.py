"""What does an actor cost to make, to have, and to have had?

    python benchmarks/actor_growth.py --vs ray

A hundred that are made, called once and killed; then, of our side alone, thousands that live at once, and
thousands one after another: how fast the first and the last of them are, and what is left of them.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from harness import command_line, compare, emit
from processes import children_of, pss_mib

OURS = "orchestrator"
PEERS = ("ray",)
TOGETHER = 2_000
ONE_AFTER_ANOTHER = 10_000
#: As many of them are timed at the beginning, and at the end.
TIMED = 1_000
#: Nobody ends or begins for that long: the session has come to rest.
SETTLE_S = 1.0


def make_call_kill(api: Any, actor_class: Any, count: int) -> float:
    """Return how many a second."""
    start = time.perf_counter()
    actors = [actor_class.remote() for _ in range(count)]
    api.get([actor.ping.remote() for actor in actors])
    for actor in actors:
        api.kill(actor)
    return count / (time.perf_counter() - start)


def session_mib() -> float:
    """The memory of the driver and all that it has started, when those that are about to end have ended."""
    count, deadline = 0, time.monotonic() + SETTLE_S
    while (now := len(children_of(os.getpid()))) != count or time.monotonic() < deadline:
        if now != count:
            count, deadline = now, time.monotonic() + SETTLE_S
        time.sleep(0.05)
    return pss_mib([os.getpid(), *children_of(os.getpid())])


def child(side: str, quick: bool) -> None:
    """Measure one side and print its rows."""
    scale = 10 if quick else 1
    api = importlib.import_module(side)
    api.init(logging_level="error")

    @api.remote(num_cpus=0)
    class Actor:
        def ping(self) -> bytes:
            return b"ok"

    make_call_kill(api, Actor, 5)
    emit("100 actors made, called once, killed", make_call_kill(api, Actor, 100), "/s")
    if side == OURS:
        together = TOGETHER // scale
        before = session_mib()
        start = time.perf_counter()
        actors = [Actor.remote() for _ in range(together)]
        api.get([actor.ping.remote() for actor in actors])
        emit("2 000 actors at once: made and called", together / (time.perf_counter() - start), "/s")
        emit("2 000 actors at once: memory of one", (session_mib() - before) / together, "MiB")
        del actors
        rates = []
        before = 0.0
        for number in range(ONE_AFTER_ANOTHER // TIMED):
            start = time.perf_counter()
            for _ in range(TIMED // scale):
                actor = Actor.remote()
                api.get(actor.ping.remote())
                api.kill(actor)
            rates.append(TIMED // scale / (time.perf_counter() - start))
            if number == 0:
                before = session_mib()
        emit("10 000 actors one after another: the first thousand", rates[0], "/s")
        emit("10 000 actors one after another: the last thousand", rates[-1], "/s")
        emit("10 000 actors one after another: what is left of 9 000", session_mib() - before, "MiB")
    api.shutdown()


def main() -> None:
    arguments = command_line(
        __doc__, quick="a tenth of our own thousands", peers=PEERS, without_ours=True
    ).parse_args()
    if arguments.child:
        child(arguments.child, arguments.quick)
        return
    compare(__file__, "actor_growth", "actors, from few to many", [OURS], arguments)


if __name__ == "__main__":
    main()
