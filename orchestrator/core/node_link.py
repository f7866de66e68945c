"""Talking to the node process: JSON messages, and requests with answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import PLAIN, Entry
from orchestrator.core.part import Part
from orchestrator.core.pump import Pump
from orchestrator.objects.plasma_adapter import CONTROL, Endpoint, PeerDiedError

Answer = dict[str, Any]


class NodeLink(Part):
    """The way to the node process."""

    def __init__(self, endpoint: Endpoint, address: int, pump: Pump) -> None:
        self.address = address
        self._endpoint = endpoint
        self._sender = endpoint.sender(address, CONTROL)
        self._pump = pump
        self._next_request = itertools.count(1).__next__
        self._waiting: dict[int, Callable[[Answer], None]] = {}
        #: takes further answers to a request, and those that come too late
        self.unclaimed: Callable[[Answer], None] = lambda answer: None

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. A node that has died is noticed elsewhere."""
        payload = json.dumps(message).encode()
        try:
            while not self._sender.send(payload):
                # The node reads all the time; a full ring empties within microseconds.
                self._endpoint.wait(0, 0.001, self._endpoint.bell())
        except PeerDiedError:
            pass

    def ask_later(self, message: dict[str, Any], on_answer: Callable[[Answer], None]) -> None:
        """Send a request; `on_answer` is called by whoever reads the answer."""
        request = self._next_request()
        self._waiting[request] = on_answer
        self.send({**message, "req": request})

    def ask(self, message: dict[str, Any], timeout_s: float = config.NODE_ANSWER_TIMEOUT_S) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            GetTimeoutError: no answer in time.
            NodeDiedError: the node is dead.
        """
        entry = Entry(0)
        self.ask_later(message, lambda answer: (entry.complete(PLAIN, answer), None)[1])
        if not self._pump.wait(entry, monotonic() + timeout_s):
            raise exceptions.GetTimeoutError(
                f"the node did not answer {message['op']!r} within {timeout_s:g} s"
            )
        answer: Answer = entry.value
        return answer

    def on_answer(self, answer: Answer) -> None:
        """Hand an answer to whoever asked."""
        self._waiting.pop(answer.get("req", 0), self.unclaimed)(answer)
