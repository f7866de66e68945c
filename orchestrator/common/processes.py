"""How a process of another node is called in this node's store: the name of its stand-in says who it
stands for."""

from __future__ import annotations

from orchestrator.common.ids import Process

_MARK = "~"


def stand_in_name(process: Process) -> str:
    """Return the name of the client that stands for a process of another node."""
    return f"{_MARK}{process.node:x}.{process.address:x}"


def process_of_name(name: str | None) -> Process | None:
    """Return the process that the client of this name stands for; None if it is a process of this node."""
    if name is None or not name.startswith(_MARK):
        return None
    node, _, address = name[1:].partition(".")
    try:
        return Process(int(node, 16), int(address, 16))
    except ValueError:
        return None
