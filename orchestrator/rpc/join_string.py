"""The one token that a new node needs: `orc1:host:port/fingerprint/secret/check`.

========== =============================================================================================
part       what
========== =============================================================================================
`orc1`     that this is a join string, and its version
host:port  where the head takes in new nodes; an IPv6 address has no brackets, which shells interpret
fingerprint the first 128 bits of the SHA-256 of the cluster's CA certificate: whom to believe
secret     128 random bits: the right to join. It is proven, and never travels (`joining`)
check      20 bits over all before: a slip of the mouse is found here, and not after a time-out
========== =============================================================================================

Bits are written in base32, in small letters: nothing in it means anything to a shell, it survives an
upper-casing, and white space that a terminal or a mail put into it is dropped.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

PREFIX = "orc"
VERSION = 1
FINGERPRINT_SIZE_BYTES = 16
SECRET_SIZE_BYTES = 16
_CHECK_LETTERS = 4
_HEAD = re.compile(rf"{PREFIX}(\d+):", re.IGNORECASE)


class JoinStringError(ValueError):
    """The text is no join string; the message says what is wrong with it, and never repeats the secret."""


class JoinString(NamedTuple):
    """Where a cluster is, how to know it, and the right to join it."""

    host: str
    port: int
    fingerprint: bytes
    secret: bytes

    @property
    def address(self) -> str:
        """Return `host:port` for people."""
        return join_address(self.host, self.port)

    def text(self) -> str:
        """Return the token."""
        body = (
            f"{PREFIX}{VERSION}:{self.host}:{self.port}/{_letters(self.fingerprint)}/{_letters(self.secret)}/"
        )
        return body + _check(body)

    def __repr__(self) -> str:
        return f"JoinString({self.address!r}, ...)"  # the secret must not reach logs


def parse(text: str) -> JoinString:
    """Read a join string.

    Raises:
        JoinStringError: it is none.
    """
    token = "".join(text.split())
    if not token:
        raise JoinStringError("the join string is empty; `orchestrator start --head` prints it")
    found = _HEAD.match(token)
    if found is None:
        raise JoinStringError(
            f"{_shown(token)} is no join string, which begins with {PREFIX}{VERSION}: - `orchestrator start "
            "--head` prints it; an address alone gives no right to join"
        )
    if int(found[1]) != VERSION:
        raise JoinStringError(
            f"the join string has version {found[1]}, and this installation knows version {VERSION}: "
            "install the "
            "same version of plasma-orchestrator as the head has"
        )
    parts = token[found.end() :].split("/")
    if len(parts) != 4 or len(parts[3]) < _CHECK_LETTERS:
        raise JoinStringError(
            f"the join string is cut off: it has {len(parts)} of 4 parts (address/fingerprint/secret/check)"
            if len(parts) < 4
            else f"the join string has {len(parts)} parts instead of 4 (address/fingerprint/secret/check)"
            if len(parts) > 4
            else f"the join string is cut off: its last part has {len(parts[3])} of {_CHECK_LETTERS} letters"
        )
    # Host names don't care for case, and all else is in small letters.
    token = token.lower()
    body, check = token[: -len(parts[3])], parts[3].lower()
    if check != _check(body):
        raise JoinStringError(
            "the join string's check does not match: something in it was mistyped or is missing"
        )
    host, port = split_address(parts[0].lower(), "the join string")
    return JoinString(
        host,
        port,
        _bits(parts[1], FINGERPRINT_SIZE_BYTES, "fingerprint"),
        _bits(parts[2], SECRET_SIZE_BYTES, "secret"),
    )


def split_address(text: str, what: str = "the address") -> tuple[str, int]:
    """Return the host and the port of `host:port`, `[v6]:port` or `v6:port`.

    Raises:
        JoinStringError: there is no host, or no port from 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or any(letter in host for letter in "/[]@ "):
        raise JoinStringError(f"{what} wants host:port, not {text[:100]!r}")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise JoinStringError(f"{what} has the port {port[:20]!r}, which is no number from 0 to 65535")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address, as gRPC and sockets want it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _letters(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _bits(letters: str, size_bytes: int, what: str) -> bytes:
    padded = letters.upper() + "=" * (-len(letters) % 8)
    try:
        data = base64.b32decode(padded)
    except binascii.Error:
        raise JoinStringError(f"the join string's {what} has letters that cannot be in it") from None
    if len(data) != size_bytes:
        raise JoinStringError(f"the join string's {what} has {len(data)} bytes instead of {size_bytes}")
    return data


def _check(body: str) -> str:
    import hashlib

    return _letters(hashlib.sha256(body.encode()).digest())[:_CHECK_LETTERS]


def _shown(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:40] + "...")
