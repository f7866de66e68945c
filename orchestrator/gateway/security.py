"""TLS between the nodes of a cluster: each shows a certificate of the cluster's, and believes no others."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from orchestrator.rpc.joining import load_identity

if TYPE_CHECKING:
    from orchestrator.rpc.credentials import Identity


def tls_context(identity: Identity, *, server: bool) -> ssl.SSLContext:
    """Return the TLS of links, for the side that listens or the one that dials."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=identity.ca.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    load_identity(context, identity)
    return context
