"""The end of channels that do not exist: in one process nothing is sent, so nothing arrives."""

from __future__ import annotations

from typing import Any


class InlineEndpoint:
    """What the worker's code asks of an endpoint, answered for a process that has nobody to talk to."""

    def __init__(self, address: int) -> None:
        self.address = address

    def receive(self, lane: int = 0) -> tuple[int, bytes] | None:
        """Return None: there is never a message."""
        return None

    def has_message(self, lane: int = 0) -> bool:
        """Return False."""
        return False

    def bell(self) -> int:
        """Return the number of a bell that never rings."""
        return 0

    def ring(self) -> None:
        """Nobody listens."""

    def wait(self, lane_mask: int, timeout_s: float | None, bell: int) -> bool:
        """Return at once: nothing will come."""
        return False

    def close_sender(self, address: int) -> None:
        """There is none."""

    def __repr__(self) -> str:
        return f"InlineEndpoint({self.address})"


Sender = Any
