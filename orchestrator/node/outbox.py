"""Messages from the node to the clients; those that do not fit into a ring now wait here, in order."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Sender(Protocol):
    """The sending end of one channel."""

    def send(self, payload: bytes) -> int:
        """Return a ticket, or 0 when the ring is full."""
        ...


#: Messages that may wait for one client. A client that has this many does not run at all (a stopped
#: process); what comes on top is dropped and counted.
BACKLOG_MAX = 65_536

#: ASCII only, so that no text can fail to be encoded.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Outbox:
    """One per node process.

    Args:
        open_sender: gives the channel to a client.
        hopeless: what it, and the channel, raise when a message can never be delivered: the client is gone,
        or the
            message is too large. Such messages are dropped.
    """

    def __init__(self, open_sender: Callable[[int], Sender], hopeless: tuple[type[Exception], ...]) -> None:
        self._open_sender = open_sender
        self._hopeless = hopeless
        self._senders: dict[int, Sender] = {}
        self._backlogs: dict[int, deque[bytes]] = {}
        #: Bytes that wait, by client.
        self._bytes: dict[int, int] = {}
        #: Messages that were not delivered: no such client, too large, or a full backlog.
        self.dropped_count = 0
        #: Takes what is for a process of another node: (its stand-in's address, payload); False if it is not.
        self.abroad: Callable[[int, bytes], bool] | None = None

    def send(self, address: int, message: dict[str, Any]) -> None:
        """Send a control message, now or when there is room."""
        self.send_payload(address, _encode(message).encode())

    def send_payload(self, address: int, payload: bytes) -> None:
        """Send an encoded message."""
        if self.abroad is not None and self.abroad(address, payload):
            return
        backlog = self._backlogs.get(address)
        if backlog is None:
            if not self._try_send(address, payload):
                self._backlogs[address] = deque([payload])
                self._bytes[address] = len(payload)
        elif len(backlog) < BACKLOG_MAX:
            backlog.append(payload)
            self._bytes[address] += len(payload)
        else:
            self.dropped_count += 1

    def broadcast(self, addresses: Iterable[int], message: dict[str, Any]) -> None:
        """Send one message to many clients."""
        payload = _encode(message).encode()
        for address in list(addresses):
            self.send_payload(address, payload)

    def backlog_bytes(self, address: int) -> int:
        """Return how many bytes wait for a client."""
        return self._bytes.get(address, 0)

    def drop_waiting(self, address: int, prefix: bytes) -> int:
        """Drop the waiting messages of one kind; return how many there were."""
        backlog = self._backlogs.get(address, deque())
        kept = deque(payload for payload in backlog if not payload.startswith(prefix))
        dropped_count = len(backlog) - len(kept)
        if dropped_count:
            self._backlogs[address] = kept
            self._bytes[address] = sum(map(len, kept))
        return dropped_count

    def flush(self) -> bool:
        """Send what fits now; True if something is still waiting."""
        for address, backlog in list(self._backlogs.items()):
            while backlog and self._try_send(address, backlog[0]):
                self._bytes[address] -= len(backlog.popleft())
            if not backlog:
                self._drop_backlog(address)
        return bool(self._backlogs)

    def forget(self, address: int) -> None:
        """A client is gone."""
        self._senders.pop(address, None)
        self._drop_backlog(address)

    def _drop_backlog(self, address: int) -> None:
        self._backlogs.pop(address, None)
        self._bytes.pop(address, None)

    def _try_send(self, address: int, payload: bytes) -> bool:
        """Return False if the ring is full; a client that is gone takes everything."""
        try:
            sender = self._senders.get(address)
            if sender is None:
                sender = self._senders[address] = self._open_sender(address)
            return sender.send(payload) != 0
        except self._hopeless:
            self._senders.pop(address, None)
            self.dropped_count += 1
            return True
