"""How connections between nodes are protected: by mutual TLS, or not at all where a network is trusted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from orchestrator.rpc.credentials import Identity


@dataclass(frozen=True)
class Security:
    """What to use for which connection."""

    #: None: everything in the clear and without proof of who is who, for tests and benchmarks
    identity: Identity | None
    #: The operator says that nobody listens or writes on this network: object data travels in the clear. Who
    #: may connect is still proved through the service.
    trusted: bool = False

    def data_context(self, *, server: bool) -> ssl.SSLContext | None:
        """Return the TLS of data connections; None: in the clear."""
        if self.identity is None or self.trusted:
            return None
        from orchestrator.rpc.joining import load_identity

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.identity.ca.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        load_identity(context, self.identity)
        return context
