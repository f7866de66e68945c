"""How two nodes recognise each other at the beginning of a link's connection. PURE.

Both know the cluster's secret; it never travels. Each line is JSON with a length in front, as every frame is:

    dialer    {"link": 1, "cluster": ..., "node": 3, "to": 5, "incarnation": ..., "nonce": a}
    listener  {"nonce": b, "proof": HMAC(secret, "listener" a b ...)}                 or {"error": text}
    dialer    {"proof": HMAC(secret, "dialer" a b ...)}
    listener  {"arrived": n}                                                          or {"error": text}

Then frames flow from the dialer, and acknowledgements back. With TLS the certificates of the cluster say the
same once more, and nobody can listen; on a trusted network this is what keeps strangers out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from typing import Any, NamedTuple

#: Raised with every change that older nodes would not understand.
PROTOCOL = 1
#: Of one line of the handshake.
LINE_BYTES_MAX = 4096
NONCE_BYTES = 16

_LENGTH = struct.Struct("<I")


class Refused(Exception):
    """The other end is not, or does not take us for, a node of this cluster. The text is for people."""


class Greeting(NamedTuple):
    """Who dials, and whom."""

    cluster: str
    node: int
    to: int
    #: Random, new with each start of the node process.
    incarnation: str
    nonce: str
    protocol: int = PROTOCOL

    def to_line(self) -> bytes:
        """Return the first line."""
        return line({
            "link": self.protocol, "cluster": self.cluster, "node": self.node, "to": self.to,
            "incarnation": self.incarnation, "nonce": self.nonce,
        })  # fmt: skip

    @classmethod
    def from_line(cls, fields: dict[str, Any]) -> Greeting:
        """Return what a dialer says of itself.

        Raises:
            Refused: it is no greeting, or one of another protocol.
        """
        match fields:
            case {"link": int(protocol)} if protocol != PROTOCOL:
                raise Refused(f"it speaks version {protocol} of the link protocol, this node {PROTOCOL}")
            case {
                "link": int(protocol), "cluster": str(cluster), "node": int(node), "to": int(to),
                "incarnation": str(incarnation), "nonce": str(nonce),
            } if 0 < node < 1 << 16 and 0 < to < 1 << 16 and len(nonce) >= NONCE_BYTES:  # fmt: skip
                return cls(cluster, node, to, incarnation, nonce, protocol)
        raise Refused("its greeting makes no sense")


def proof(secret: bytes, role: str, greeting: Greeting, nonce: str) -> str:
    """Return what only somebody with the secret can say, in this role, in this conversation."""
    said = json.dumps([role, *greeting, nonce]).encode()
    return hmac.new(secret, said, hashlib.sha256).hexdigest()


def is_proof(given: Any, secret: bytes, role: str, greeting: Greeting, nonce: str) -> bool:
    """Tell whether somebody knows the secret."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(), proof(secret, role, greeting, nonce).encode()
    )


def line(fields: dict[str, Any]) -> bytes:
    """Return a line of the handshake."""
    body = json.dumps(fields).encode()
    return _LENGTH.pack(len(body)) + body


class Lines:
    """Puts the lines of a handshake together from pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take what has arrived."""
        self._rest += piece

    def next(self) -> dict[str, Any] | None:
        """Return the next line when it is complete.

        Raises:
            Refused: what has arrived is no line.
        """
        rest = self._rest
        if len(rest) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(rest)
        if size > LINE_BYTES_MAX:
            raise Refused(f"it began with {bytes(rest[:16])!r}, which is not the link protocol")
        if len(rest) < _LENGTH.size + size:
            return None
        body = bytes(rest[_LENGTH.size : _LENGTH.size + size])
        del rest[: _LENGTH.size + size]
        try:
            fields = json.loads(body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Refused(f"it said {body[:40]!r}, which is not the link protocol")
        return fields

    def rest(self) -> bytes:
        """Return what came behind the last line: the first frames."""
        left, self._rest = bytes(self._rest), bytearray()
        return left
