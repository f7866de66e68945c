"""Whether two processes can work together: the protocol they speak, and their Python.

Functions, classes and values travel pickled, and byte code and standard classes differ between minor versions
of Python; two that differ would fail later, in the user's code, with an error that says nothing. So each
connection begins with both versions, and each side refuses what does not match, in the same words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

#: Raised when a peer of the version before would misread what is sent.
PROTOCOL_VERSION = 1

PROTOCOL_KEY = "orchestrator-protocol"
PYTHON_KEY = "orchestrator-python"


class Versions(NamedTuple):
    """What one side says of itself at the beginning of a connection."""

    protocol: int
    #: As in `3.11`.
    python: str

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return it as headers."""
        return ((PROTOCOL_KEY, str(self.protocol)), (PYTHON_KEY, self.python))


def own_versions() -> Versions:
    """Return the versions of this process."""
    return Versions(PROTOCOL_VERSION, f"{sys.version_info.major}.{sys.version_info.minor}")


def from_metadata(headers: Mapping[str, str]) -> Versions | None:
    """Return what a peer's headers say; None if they say nothing that makes sense."""
    protocol, python = headers.get(PROTOCOL_KEY, ""), headers.get(PYTHON_KEY, "")
    if not (protocol.isascii() and protocol.isdigit() and len(protocol) < 10 and 0 < len(python) < 10):
        return None
    return Versions(int(protocol), python)


def objection(head: Versions, node: Versions | None) -> str:
    """Return why a node cannot work with this head; "" if it can. Both sides show this text."""
    if node is None:
        return "it does not say which protocol it speaks: it is no node of an orchestrator cluster"
    if node.protocol != head.protocol:
        older = "node" if node.protocol < head.protocol else "head"
        return (
            f"the node speaks protocol {node.protocol} and the head {head.protocol}; install the same "
            "version of "
            f"plasma-orchestrator on both (the {older} has the older one)"
        )
    if node.python != head.python:
        return (
            f"the node runs Python {node.python} and the head Python {head.python}; start it with Python "
            f"{head.python}, as functions and values travel pickled"
        )
    return ""
