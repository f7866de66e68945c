"""A worker becomes an actor whose constructor's call is in the store: it died elsewhere, or is detached."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from orchestrator.core.entry import STORED, Entry
from orchestrator.core.messages import LONG, NOBODYS_SEQ, PROTOCOL
from orchestrator.objects.plasma_adapter import WORK

if TYPE_CHECKING:
    from orchestrator.core.executor import Executor


def restart_actor(executor: Executor, message: dict[str, Any]) -> None:
    """Run the constructor as soon as its call is in the store; its arguments may not have been there yet.

    It runs where all calls do, on the main thread: this process sends the call to itself.
    """
    runtime = executor.runtime
    identity = bytes.fromhex(message["constructor"])
    executor.restarts = message["restarts"]
    executor.constructor = entry = runtime.references.borrow(identity)

    def construct() -> None:
        payload = pickle.dumps((NOBODYS_SEQ, LONG, identity), PROTOCOL)
        executor.endpoint.sender(executor.endpoint.address, WORK).send(payload)

    def arrived(_: Entry) -> None:
        if entry.state == STORED:
            construct()
            return
        # Lost with its creator; or all handles have gone, and with them what they kept.
        verb = "restarted" if executor.restarts else "made"
        cause = f"it could not be {verb}: {entry.value}"
        runtime.node.send({"op": "actor_state", "actor": message["actor"], "state": "dead", "cause": cause})
        executor.stop()

    entry.when_done(arrived)
    runtime.references.watch(entry)
