"""What the tables ask for. `shell` does it: all writes of a batch first, then what is visible outside."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.gcs.messages import ToNode
from orchestrator.gcs.requests import Answer


class Write(NamedTuple):
    """Store a value under a key of a table; None removes it."""

    table: str
    key: str
    value: bytes | None


class Tell(NamedTuple):
    """Say this to a node, if it has a session. Commands are said again when it registers, so none is lost."""

    node: int
    event: ToNode


class Send(NamedTuple):
    """Say this on one session."""

    session: int
    event: ToNode


class Close(NamedTuple):
    """End a session."""

    session: int


class Reply(NamedTuple):
    """Answer a request."""

    node: int
    number: int
    answer: Answer


Effect = Write | Tell | Send | Close | Reply
