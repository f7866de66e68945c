"""Everything it takes for a head to serve, in order: port, storage, credentials, server.

The cluster's CA and the secret of its join string lie in the storage, beside the tables: a head that is
started anew on the same storage, on another machine too, is the same cluster, and its nodes come back by
themselves.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from orchestrator.common.ids import random_hex
from orchestrator.gcs.effects import Write
from orchestrator.gcs.nodes import META, HealthPolicy
from orchestrator.gcs.server import GcsServer, HeadConfig
from orchestrator.gcs.storage import Rows, Storage, StorageError, open_storage
from orchestrator.rpc import credentials, listening
from orchestrator.rpc.credentials import Authority, CredentialError
from orchestrator.rpc.join_string import JoinString, JoinStringError, join_address, split_address
from orchestrator.rpc.versions import Versions, own_versions

AUTHORITY_KEY = "authority"
#: Hosts that mean all addresses of the machine.
EVERYWHERE = ("", "0.0.0.0", "::")


class StartError(Exception):
    """The head cannot be started; the text says why and what to do."""


class RunningHead(NamedTuple):
    """A head that serves."""

    server: GcsServer
    storage: Storage
    address: str
    join_string: JoinString
    cluster_id: str

    async def close(self) -> None:
        """Stop serving, and close the storage."""
        await self.server.stop()
        self.storage.close()


class HeadOptions(NamedTuple):
    """What a head is started with."""

    #: `host:port`; port 0 for any that is free, an empty host for all addresses.
    listen: str
    #: See `storage.open_storage`.
    storage_url: str
    #: A private directory, in which the credentials are written for processes of this machine.
    session_dir: str
    #: The host that the join string names; that of `listen` by default.
    advertise: str = ""
    #: Of a new cluster; random by default.
    cluster_id: str = ""
    #: See `placement_groups.GroupTable`.
    refuse_after_s: float | None = 60.0
    policy: HealthPolicy = HealthPolicy()


async def start_head(
    options: HeadOptions, complain: Callable[[str], None], versions: Versions | None = None
) -> RunningHead:
    """Start to serve in this loop.

    Args:
        options: where, and on what.
        complain: is told what went wrong in a line of text.
        versions: what nodes must have; those of this process by default.

    Raises:
        StartError: it cannot be; nothing is left behind.
    """
    # Undone in the reverse order, unless all of it is done.
    with ExitStack() as undo:
        try:
            host, port = _split_listen(options.listen)
            sock = listening.bind(host, port)
            undo.callback(sock.close)
            storage = open_storage(options.storage_url, complain)
            undo.callback(storage.close)
            rows = storage.load()
            authority = _authority_of(storage, rows)
            authority.save(options.session_dir)
            shown = options.advertise or (host if host not in EVERYWHERE else socket.gethostname())
            names = [name for name in dict.fromkeys((shown, host, "127.0.0.1", "localhost")) if name]
            config = HeadConfig(
                authority,
                authority.issue(credentials.HEAD_ID, names, credentials.utc_now()),
                own_versions() if versions is None else versions,
                options.session_dir,
                options.cluster_id or random_hex(),
                options.refuse_after_s,
                options.policy,
            )
            server = GcsServer(config, storage, rows, sock, complain)
            await server.start()
        except (JoinStringError, StorageError, CredentialError, OSError, ValueError) as exc:
            raise StartError(str(exc)) from None
        undo.pop_all()
    port = server.doorway.port
    join_string = JoinString(shown.lower(), port, authority.fingerprint(), authority.secret)
    return RunningHead(server, storage, join_address(shown, port), join_string, server.head.cluster_id)


def _split_listen(listen: str) -> tuple[str, int]:
    if listen.startswith(":") and listen.count(":") == 1:
        return "", split_address(f"any{listen}", "--listen")[1]
    return split_address(listen, "--listen")


def _authority_of(storage: Storage, rows: Rows) -> Authority:
    """Return the cluster's CA and secret from the storage, or new ones, stored before they are used."""
    stored = rows.get(META, {}).get(AUTHORITY_KEY)
    if stored is not None:
        plain = json.loads(stored)
        return Authority(plain["ca"].encode(), plain["key"].encode(), bytes.fromhex(plain["secret"]))
    authority = Authority.create(credentials.utc_now())
    plain = {"ca": authority.ca.decode(), "key": authority.key.decode(), "secret": authority.secret.hex()}
    storage.commit([Write(META, AUTHORITY_KEY, json.dumps(plain).encode())])
    return authority


def local_identity(session_dir: str, node_id: str, addresses: list[str]) -> credentials.Identity:
    """Return an identity for a node on the head's own machine, which need not ask: the CA's key lies here.

    Raises:
        CredentialError: it doesn't; this is not the session's directory of a head.
    """
    return Authority.load(session_dir).issue(node_id, addresses, credentials.utc_now())
