"""How a machine that has only the join string becomes a node: six messages over one TLS connection.

===== ================================== ================================================================
from  message                            what the receiver does with it
===== ================================== ================================================================
node  `ORC-JOIN/1`, a line in the clear  the head's port knows what kind of connection this is
      (TLS begins, not verified yet)
node  versions, nonce                    the head refuses versions that don't match
head  versions, nonces, CA certificate   the node compares the CA's fingerprint with the join string, and
                                         demands that *this* TLS connection's certificate is signed by it
node  certificate request, proof         the head checks the proof, and signs the request
head  certificate, cluster id, proof     the node checks the proof: it has joined
===== ================================== ================================================================

A node whose certificate gRPC refused (without a word, as it does) sends that instead of its first message,
and is told what is wrong with it: the one question that needs no proof.

A proof is an HMAC under the secret over both nonces, the head's TLS certificate and the sender's message. So
the secret never travels, a proof is of no use on another connection (whoever sits in between has no
certificate of the cluster's), and neither side can be talked into signing for the other. Messages are JSON
behind a length of 4 bytes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import socket
import ssl
from typing import Any, NamedTuple

from orchestrator.rpc import credentials
from orchestrator.rpc.credentials import Authority, CredentialError, Identity
from orchestrator.rpc.join_string import JoinString
from orchestrator.rpc.versions import Versions, objection

PREFACE = b"ORC-JOIN/1\n"
MESSAGE_SIZE_MAX_BYTES = 64 << 10
#: A joining node has this long; somebody who only holds the connection open is dropped.
JOIN_TIMEOUT_S = 5.0
#: Before a wrong proof is answered: nobody guesses 128 bits, but nobody should keep the head busy trying
#: either.
WRONG_PROOF_PAUSE_S = 0.5


class JoinError(Exception):
    """The node could not join; the text says why and what to do."""


class JoinRefused(Exception):
    """The head does not take this peer; the text is for both sides."""


class Judged(JoinRefused):
    """The peer only asked what is wrong with its certificate; "" if nothing is."""


class Joined(NamedTuple):
    """What a node has after joining."""

    identity: Identity
    cluster_id: str


# ---------------------------------------------------------------- the head's side


class JoinDesk:
    """Takes in nodes. One for a head; `serve` is called for each connection."""

    def __init__(self, authority: Authority, identity: Identity, versions: Versions, cluster_id: str) -> None:
        self._authority = authority
        self._versions = versions
        self._cluster_id = cluster_id
        self._leaf = _der(identity.certificate)
        self.context = server_context(identity)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Speak with one node; return its id.

        Raises:
            JoinRefused: it was refused, and told why.
            OSError, EOFError, ValueError: it left, or sent what makes no sense.
        """
        try:
            return await self._serve(reader, writer)
        except Judged:
            raise
        except (JoinRefused, CredentialError) as exc:
            await _send(writer, {"refused": str(exc)})
            raise JoinRefused(str(exc)) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        hello = await _receive(reader)
        if "certificate" in hello:
            text = self._verdict(_field(hello, "certificate", str).encode())
            await _send(writer, {"verdict": text})
            raise Judged(text)
        theirs = Versions(_field(hello, "protocol", int), _field(hello, "python", str))
        text = objection(self._versions, theirs)
        if text:
            raise JoinRefused(text)
        nonces = _field(hello, "nonce", str).encode() + b"/" + os.urandom(16).hex().encode()
        await _send(
            writer,
            {**self._versions._asdict(), "nonces": nonces.decode(), "ca": self._authority.ca.decode()},
        )
        request = await _receive(reader)
        csr = _field(request, "csr", str).encode()
        wanted = credentials.proof(self._authority.secret, b"node", nonces, self._leaf, csr).hex()
        if not hmac.compare_digest(wanted, _field(request, "proof", str)):
            await asyncio.sleep(WRONG_PROOF_PAUSE_S)
            raise JoinRefused(
                "the secret of the join string is not this cluster's; use the join string of this head"
            )
        certificate = self._authority.sign_request(csr, credentials.utc_now())
        body = json.dumps({"certificate": certificate.decode(), "cluster": self._cluster_id})
        mine = credentials.proof(self._authority.secret, b"head", nonces, self._leaf, body.encode())
        await _send(writer, {"body": body, "proof": mine.hex()})
        return credentials.common_name(certificate)

    def _verdict(self, certificate: bytes) -> str:
        try:
            if not credentials.is_signed_by(_der(certificate), self._authority.ca):
                return "it was issued by another cluster: use the join string of this head"
        except ValueError:
            return "it is no certificate"
        return Identity(b"", certificate, b"").objection(credentials.utc_now())


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return the TLS settings for joining: no client certificate is asked for, as there is none yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_identity(context, identity)
    return context


def load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Have a context show this identity. The standard library reads keys from files only: one in memory."""
    fd = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, identity.certificate + identity.key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


# ---------------------------------------------------------------- the node's side


async def join(
    where: JoinString,
    node_id: str,
    addresses: list[str],
    versions: Versions,
    *,
    timeout_s: float = JOIN_TIMEOUT_S,
) -> Joined:
    """Become a node of the cluster that the join string names.

    Args:
        where: the join string.
        node_id: the id of this node, 16 hexadecimal digits.
        addresses: the names and IP addresses under which others reach it.
        versions: those of this process.
        timeout_s: how long it may take in all.

    Raises:
        JoinError: it did not work; the text says what was tried, why it failed and what to do.
    """
    tried = f"joining the cluster at {where.address}"
    try:
        return await asyncio.wait_for(_join(where, node_id, addresses, versions), timeout_s)
    except JoinRefused as exc:
        raise JoinError(f"{tried}: the head refused: {exc}") from None
    except JoinError as exc:
        raise JoinError(f"{tried}: {exc}") from None
    except (TimeoutError, asyncio.TimeoutError):
        raise JoinError(
            f"{tried}: no answer within {timeout_s:g} s; is the machine up, and is the port reachable from "
            "here "
            "(firewall)?"
        ) from None
    except ConnectionRefusedError:
        raise JoinError(
            f"{tried}: nothing listens there; is the head running? After a new start it has a new join string"
        ) from None
    except socket.gaierror as exc:
        raise JoinError(f"{tried}: the name {where.host!r} is not known here: {exc.strerror}") from None
    except (ssl.SSLError, EOFError, ValueError) as exc:
        raise JoinError(f"{tried}: whoever listens there does not speak as a head does ({exc})") from None
    except OSError as exc:
        raise JoinError(f"{tried}: {exc.strerror or exc}") from None


async def _join(where: JoinString, node_id: str, addresses: list[str], versions: Versions) -> Joined:
    # Whom to believe is known only after the CA has come, and is checked then.
    reader, writer = await open_tls(where.host, where.port, PREFACE, _unverified())
    try:
        leaf: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        await _send(writer, {**versions._asdict(), "nonce": os.urandom(16).hex()})
        answer = await _receive(reader)
        ca = _field(answer, "ca", str).encode()
        _check_head(where, ca, leaf)
        nonces = _field(answer, "nonces", str).encode()
        key, csr = credentials.make_request(node_id, addresses)
        mine = credentials.proof(where.secret, b"node", nonces, leaf, csr)
        await _send(writer, {"csr": csr.decode(), "proof": mine.hex()})
        answer = await _receive(reader)
        body = _field(answer, "body", str)
        wanted = credentials.proof(where.secret, b"head", nonces, leaf, body.encode()).hex()
        if not hmac.compare_digest(wanted, _field(answer, "proof", str)):
            raise JoinError("the head does not know the secret of the join string")
        content = json.loads(body)
        identity = Identity(ca, _field(content, "certificate", str).encode(), key)
        return Joined(identity, _field(content, "cluster", str))
    finally:
        await end_streams(writer)


async def ask_verdict(host: str, port: int, certificate: bytes) -> str:
    """Ask a head what is wrong with a certificate; "" if nothing is.

    Raises:
        OSError, EOFError, ValueError: there is no head, or it does not know the question.
    """
    reader, writer = await open_tls(host, port, PREFACE, _unverified())
    try:
        await _send(writer, {"certificate": certificate.decode()})
        text: str = _field(await _receive(reader), "verdict", str)
        return text[:1000]
    finally:
        await end_streams(writer)


def _unverified() -> ssl.SSLContext:
    """Return TLS settings for a head that is not known yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_head(where: JoinString, ca: bytes, leaf: bytes) -> None:
    try:
        found = credentials.fingerprint(ca)
    except CredentialError as exc:
        raise JoinError(str(exc)) from None
    if not hmac.compare_digest(found, where.fingerprint):
        raise JoinError(
            "the head there belongs to another cluster than the join string (its CA has another "
            "fingerprint): a head "
            "that was started anew has a new join string"
        )
    if not credentials.is_signed_by(leaf, ca):
        raise JoinError(
            "somebody listens there who is not the head (his certificate is not signed by its CA)"
        )


async def open_tls(
    host: str, port: int, preface: bytes, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, send `preface` in the clear, and begin TLS.

    Raises:
        OSError, ssl.SSLError: as the connection has it.
    """
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, preface)
            return await streams_over(sock, context, server_side=False, host=host)
        except ssl.SSLError:
            sock.close()
            raise
        except OSError as exc:
            sock.close()
            last = exc
        except BaseException:
            sock.close()
            raise
    raise last or OSError(f"{host} has no address")


async def streams_over(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    host: str = "",
    timeout_s: float = JOIN_TIMEOUT_S,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin TLS on a connected socket."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MESSAGE_SIZE_MAX_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    if server_side:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=context, ssl_handshake_timeout=timeout_s
        )
    else:
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=context, server_hostname=host, ssl_handshake_timeout=timeout_s
        )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def end_streams(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until nothing is left of it; a peer that does not answer the goodbye is cut off."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), 1.0)
    except (OSError, TimeoutError, asyncio.TimeoutError):
        writer.transport.abort()
        await asyncio.sleep(0)


# ---------------------------------------------------------------- messages


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MESSAGE_SIZE_MAX_BYTES:
        raise ValueError(f"a message of {size} bytes; at most {MESSAGE_SIZE_MAX_BYTES} are allowed")
    message = json.loads(await reader.readexactly(size))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    if "refused" in message:
        raise JoinRefused(str(message["refused"])[:1000])
    return message


def _field(message: dict[str, Any], name: str, kind: type) -> Any:
    value = message.get(name)
    if type(value) is not kind:
        raise ValueError(f"a message without {name!r}, or with one of another kind")
    return value


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())
