"""A worker without a runtime: it says that it is ready, and runs whatever program it is sent.

A program is Python text on the WORK lane. It sees `node(message)`, `reply(message)` (to whoever sent it),
`store`, `info` and `seen`, the control messages that came so far.
"""

from __future__ import annotations

import json
import os
from typing import Any

import plasma

CONTROL, WORK = 0, 1


def run(store_fd: int, node_address: int, token: int, info: dict[str, Any]) -> None:
    """Serve for ever."""
    store = plasma.Store.attach(store_fd, name="worker")
    endpoint = store.endpoint

    def send(address: int, message: dict[str, Any]) -> None:
        endpoint.sender(address, CONTROL).send(json.dumps(message).encode())

    seen: list[dict[str, Any]] = []
    send(node_address, {"op": "ready", "token": token, "pid": os.getpid()})
    while True:
        bell = endpoint.bell()
        while (message := endpoint.receive(CONTROL)) is not None:
            seen.append(json.loads(message[1]))
        program = endpoint.receive(WORK)
        if program is None:
            endpoint.wait(1 << CONTROL | 1 << WORK, None, bell)
            continue
        sender, text = program
        names = {"store": store, "info": info, "seen": seen}
        names["node"] = lambda message: send(node_address, message)
        names["reply"] = lambda message, to=sender: send(to, {"op": "program", **message})
        exec(text.decode(), names)
