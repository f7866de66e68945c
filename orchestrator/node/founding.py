"""How a node becomes one of a cluster: what a supervisor does before it starts the node process.

    head    starts the head's process and waits until it serves; issues the node's certificate itself
    others  join: a join string buys a certificate

Either way the result is the facts that `cluster_member` wants. The certificate and its key lie in the
session's directory.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.common import environ
from orchestrator.common.config import INFEASIBLE_AFTER
from orchestrator.node import launch

#: Where a head listens unless told otherwise.
PORT = 6385
#: How long a head's process may take until it serves.
HEAD_TIMEOUT_S = 30.0
#: Where the head's process says that it serves.
ANNOUNCEMENT = "head.json"
#: Where it finds the configuration of its autoscaler.
AUTOSCALING = "autoscaling.json"


class FoundingError(Exception):
    """There is no cluster to be part of; the text says why and what to do."""


class ClusterOptions(NamedTuple):
    """What `orchestrator start` was told about the cluster."""

    #: The join string; "" for a head.
    join: str = ""
    #: Name or address by which other machines reach this one; "" finds out.
    host: str = ""
    #: Where a head listens; 0: any port that is free.
    port: int = PORT
    #: Where a head keeps its tables: a URL as `gcs.storage` takes it; "" for SQLite in `state_dir`.
    storage: str = ""
    #: Nobody listens or writes on the network: links and objects go in the clear.
    trusted: bool = False
    #: What a head's autoscaler is told, as `autoscaler.files.check` takes it; None: nobody starts nodes.
    autoscaling: dict[str, Any] | None = None


class Founded(NamedTuple):
    """What came of it."""

    #: What the node process is told.
    facts: dict[str, Any]
    #: How others join.
    join: str
    #: Kept open until the node process has its copy.
    listener: socket.socket


def head_command(options: ClusterOptions, session_dir: str) -> list[str]:
    """Return the command of the head's process, for which the session's directory is there already."""
    host = options.host or "127.0.0.1"
    storage = options.storage or f"sqlite:///{session_dir}/head.db"
    program = launch.bootstrap("from orchestrator.gcs.main import main; sys.exit(main())")
    command = [
        *launch.interpreter(site=True), program, "--listen", f"{host}:{options.port}", "--storage", storage,
        "--session-dir", session_dir, "--announce", os.path.join(session_dir, ANNOUNCEMENT),
        "--refuse-groups-after", str(environ.number(INFEASIBLE_AFTER, 0.0)),
    ]  # fmt: skip
    if options.autoscaling is not None:
        path = os.path.join(session_dir, AUTOSCALING)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(options.autoscaling, file)
        # Whatever waits may fit a node that is started for it.
        command += ["--autoscaler", path, "--refuse-groups-after", "0"]
        command += ["--trusted-network"] if options.trusted else []
    return command


def found(options: ClusterOptions, session_dir: str, log_path: str, alive: Callable[[], bool]) -> Founded:
    """Wait for the head that was started, and make this machine's node part of its cluster.

    Args:
        alive: whether the head's process still runs.

    Raises:
        FoundingError: the head did not begin to serve.
    """
    from orchestrator.gcs.starting import local_identity
    from orchestrator.rpc.join_string import parse

    path = os.path.join(session_dir, ANNOUNCEMENT)
    deadline_s = time.monotonic() + HEAD_TIMEOUT_S
    said: dict[str, Any] = {}
    while not said:
        try:
            with open(path, encoding="utf-8") as file:
                said = json.load(file)
        except (OSError, ValueError):
            if not alive() or time.monotonic() > deadline_s:
                raise FoundingError(f"the head's process did not begin to serve; see {log_path}") from None
            time.sleep(0.002)
    if "error" in said:
        raise FoundingError(said["error"])
    host = options.host or "127.0.0.1"
    node_id = os.urandom(8).hex()
    local_identity(session_dir, node_id, [host, "127.0.0.1"]).save(session_dir)
    secret = parse(said["join"]).secret
    return _founded(options, session_dir, node_id, host, said["serving"], secret, said["join"], is_head=True)


def join(options: ClusterOptions, session_dir: str) -> Founded:
    """Join the cluster that the join string names.

    Raises:
        FoundingError: the string makes no sense, the head can't be reached, or it refuses.
    """
    import asyncio

    from orchestrator.rpc.join_string import JoinStringError, parse
    from orchestrator.rpc.joining import JoinError
    from orchestrator.rpc.joining import join as ask
    from orchestrator.rpc.versions import own_versions

    try:
        where = parse(options.join)
        host = options.host or _own_address(where.host, where.port)
        node_id = os.urandom(8).hex()
        joined = asyncio.run(ask(where, node_id, [host], own_versions()))
    except (JoinStringError, JoinError) as error:
        raise FoundingError(str(error)) from None
    except OSError as error:
        raise FoundingError(f"the head at {where.address} can't be reached: {error}") from None
    joined.identity.save(session_dir)
    return _founded(
        options, session_dir, node_id, host, where.address, where.secret, options.join, is_head=False
    )


def _founded(
    options: ClusterOptions,
    session_dir: str,
    node_id: str,
    host: str,
    head: str,
    secret: bytes,
    join_string: str,
    *,
    is_head: bool,
) -> Founded:
    listener = socket.create_server((host, 0), backlog=128)
    facts = {
        "node_id": node_id,
        "host": host,
        "listen_fd": listener.fileno(),
        "secret": secret.hex(),
        "gcs": head,
        "identity": session_dir,
        "trusted": options.trusted,
        "is_head": is_head,
    }
    return Founded(facts, join_string, listener)


def _own_address(host: str, port: int) -> str:
    """Return the address from which this machine reaches another: others of that network reach it there."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        own: str = probe.getsockname()[0]
        return own
