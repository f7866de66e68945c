"""Everything it takes for a head to serve, in order: port, storage, credentials, server.

The cluster's CA and the secret of its join string lie in the storage, beside the tables: a head that is
started anew on the same storage, on another machine too, is the same cluster, and its nodes come back by
themselves.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import NamedTuple

from orchestrator.common.ids import random_hex
from orchestrator.gcs.effects import Write
from orchestrator.gcs.nodes import META, HealthPolicy
from orchestrator.gcs.server import GcsServer, HeadConfig
from orchestrator.gcs.storage import Rows, Storage, StorageError, open_storage
from orchestrator.rpc import credentials, doorway
from orchestrator.rpc.credentials import Authority, CredentialError
from orchestrator.rpc.join_string import JoinString, JoinStringError, join_address, split_address
from orchestrator.rpc.versions import Versions, own_versions

AUTHORITY_KEY = "authority"
#: The name of the head's own certificate: no node has it.
HEAD_ID = "0" * 16


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


async def start_head(
    *,
    listen: str,
    storage_url: str,
    session_dir: str,
    complain: Callable[[str], None],
    advertise: str = "",
    cluster_id: str = "",
    policy: HealthPolicy | None = None,
    versions: Versions | None = None,
) -> RunningHead:
    """Start to serve in this loop.

    Args:
        listen: `host:port`; port 0 for any that is free, an empty host for all addresses.
        storage_url: see `storage.open_storage`.
        session_dir: a private directory, in which the credentials are written for processes of this machine.
        complain: is told what went wrong in a line of text.
        advertise: the host that the join string names; that of `listen` by default.
        cluster_id: of a new cluster; random by default.
        policy: when a silent node is dead.
        versions: those of this process by default.

    Raises:
        StartError: it cannot be; nothing is left behind.
    """
    try:
        host, port = (
            split_address(listen, "--listen") if not listen.startswith(":") else ("", int(listen[1:]))
        )
        sock = doorway.bind(host, port)
    except (JoinStringError, OSError, ValueError) as exc:
        raise StartError(str(exc)) from None
    try:
        return await _start_on(
            sock, host, storage_url, session_dir, complain, advertise, cluster_id, policy, versions
        )
    except BaseException:
        sock.close()
        raise


async def _start_on(
    sock: socket.socket,
    host: str,
    storage_url: str,
    session_dir: str,
    complain: Callable[[str], None],
    advertise: str,
    cluster_id: str,
    policy: HealthPolicy | None,
    versions: Versions | None,
) -> RunningHead:
    port: int = sock.getsockname()[1]
    try:
        storage = open_storage(storage_url)
    except (StorageError, ValueError) as exc:
        raise StartError(str(exc)) from None
    try:
        authority = _authority_of(storage, storage.load())
        authority.save(session_dir)
        shown = advertise or (host if host not in ("", "0.0.0.0", "::") else socket.gethostname())
        addresses = [name for name in dict.fromkeys((shown, host, "127.0.0.1", "localhost")) if name]
        identity = authority.issue(HEAD_ID, addresses, credentials.utc_now())
        config = HeadConfig(
            authority,
            identity,
            own_versions() if versions is None else versions,
            session_dir,
            cluster_id or random_hex(),
            HealthPolicy() if policy is None else policy,
        )
        server = GcsServer(config, storage, sock, complain)
        await server.start()
    except (StorageError, CredentialError, OSError) as exc:
        storage.close()
        raise StartError(str(exc)) from None
    except BaseException:
        storage.close()
        raise
    join_string = JoinString(shown.lower(), port, authority.fingerprint(), authority.secret)
    return RunningHead(server, storage, join_address(shown, port), join_string, server.head.cluster_id)


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
