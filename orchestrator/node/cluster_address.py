"""From the address of a cluster to its node on this machine: a driver attaches to nothing else.

The address is that of the cluster's head, `host:port`, or its join string, whose secret is not needed here.
"""

from __future__ import annotations

import os
import re
import socket
import threading

from orchestrator.node import session_dir as directories

#: How long a name may take to be looked up, and the head to be reached. Together less than 5 s.
LOOK_UP_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 2.0

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):(\d{1,5})")
_JOIN = re.compile(r"orc\d+:", re.IGNORECASE)


def cluster_address(address: str) -> str:
    """Return the `host:port` that an address means, "" if it means no cluster.

    Raises:
        ConnectionError: it begins like a join string, and is none.
    """
    if _JOIN.match(address):
        from orchestrator.rpc import join_string

        try:
            return join_string.parse(address).address
        except join_string.JoinStringError as error:
            raise ConnectionError(str(error)) from None
    found = _ADDRESS.fullmatch(address)
    return address if found is not None and int(found[2]) < 65536 else ""


def find_node(address: str, root: str) -> str:
    """Return the directory of a node on this machine that belongs to the cluster whose head is at an address.

    Args:
        address: `host:port`.
        root: where sessions of this user live.

    Raises:
        ConnectionError: there is none. The text says what was tried, and what to do.
    """
    nodes = {
        path: str(directories.read_facts(path).get("head", ""))
        for path in directories.standing_sessions(root)
    }
    host, _, port = address.rpartition(":")
    same_port = [path for path, head in nodes.items() if head.rpartition(":")[2] == port]
    found = [path for path in same_port if nodes[path] == address]
    if not found and same_port:
        wanted = _addresses_of(host)
        found = [path for path in same_port if _addresses_of(nodes[path].rpartition(":")[0]) & wanted]
    head = os.path.join(root, directories.HEAD)
    if head in found:
        return head
    if len(found) == 1:
        return found[0]
    if found:
        listed = "".join(f"\n    {path}" for path in found)
        raise ConnectionError(
            f"several nodes of the cluster at {address} stand on this machine; pass one's directory:{listed}"
        )
    others = ", ".join(sorted({head or "a session without a cluster" for head in nodes.values()}))
    raise ConnectionError(
        f"no node of a cluster whose head is at {address} stands on this machine, and a driver attaches to "
        f"the node of its own machine. In {root} there is {others or 'no session at all'}. {_advice(address)}"
    )


def _advice(address: str) -> str:
    host, _, port = address.rpartition(":")
    answers, why = _try_head(host.strip("[]"), int(port))
    if answers:
        return (
            f"Something listens at {address}: make this machine a node of that cluster with "
            "`orchestrator start --join STRING` (`orchestrator join-string` prints it on the head's machine) "
            "and try again"
        )
    return (
        f"Nothing can be reached at {address} either ({why}): check the address, or start a head there with "
        "`orchestrator start --head`"
    )


def _addresses_of(host: str) -> set[str]:
    """Return what a host's name stands for, and the name itself; only that if it takes too long."""
    host = host.strip("[]")
    found = {host}

    def look_up() -> None:
        try:
            found.update(str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except OSError:
            pass

    thread = threading.Thread(target=look_up, name="look-up", daemon=True)
    thread.start()
    thread.join(LOOK_UP_TIMEOUT_S / 2)
    return set(found)


def _try_head(host: str, port: int) -> tuple[bool, str]:
    """Tell whether something listens, and if not, why."""
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
            outcome.append("")
        except OSError as error:
            outcome.append(error.strerror or str(error))

    thread = threading.Thread(target=connect, name="try-head", daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    why = outcome[0] if outcome else f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return not why, why
