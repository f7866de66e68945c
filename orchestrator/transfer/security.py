"""How connections between nodes are protected.

The service is mutual TLS, always. Object data goes through it in chunks, or, where the operator has declared
the network trusted, over direct connections in the clear.

Direct connections in TLS were built and measured, and are not offered: Python's ssl module takes and gives
back the interpreter's lock for each record of 16 KiB, and each record wakes the other end, which on two busy
cores moved 0.24 GB/s where chunks, which gRPC encrypts in threads of its own, moved 1.26, for less CPU time.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.rpc.credentials import Identity


@dataclass(frozen=True)
class Security:
    """What to use for which connection."""

    #: None: everything in the clear and without proof of who is who, for tests and benchmarks
    identity: Identity | None
    #: The operator says that nobody listens or writes on this network. Who may connect is still proved
    #: through the service.
    trusted: bool = False

    @property
    def direct(self) -> bool:
        """Whether object data may travel in the clear, and so over direct connections."""
        return self.trusted or self.identity is None
