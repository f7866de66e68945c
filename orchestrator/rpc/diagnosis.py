"""Why a connection with mutual TLS cannot be made: gRPC says only that it can't.

The same handshake is tried once more with the standard library, which says what was wrong, and at which end:
the person who reads this text is the one on the node, and the text says which side has to be mended.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from orchestrator.rpc import joining
from orchestrator.rpc.credentials import CLUSTER_NAME, Identity
from orchestrator.rpc.join_string import split_address

TIMEOUT_S = 3.0


async def diagnose(address: str, identity: Identity) -> str:
    """Try to connect to a server of the cluster; return what is wrong with it, "" if nothing is."""
    try:
        return await asyncio.wait_for(_diagnose(address, identity), TIMEOUT_S)
    except (TimeoutError, asyncio.TimeoutError):
        return f"{address} does not answer within {TIMEOUT_S:g} s: is it down, or is a firewall in between?"
    except ConnectionRefusedError:
        return f"nothing listens at {address}: the process there has ended, or is about to be started"
    except socket.gaierror as exc:
        return f"{address}: the name is not known here ({exc.strerror})"
    except ssl.SSLCertVerificationError as exc:
        if exc.verify_code == 10:
            return (
                f"the certificate of {address} has expired, by this machine's clock: restart what runs there"
            )
        if exc.verify_code == 9:
            return f"the certificate of {address} is not valid yet, by this machine's clock: set the clock"
        return (
            f"{address} belongs to another cluster: its certificate is not of this CA ({exc.verify_message})"
        )
    except ssl.SSLError as exc:
        return f"{address} breaks off the TLS handshake: {exc.reason or exc}"
    except (OSError, EOFError) as exc:
        return f"the connection to {address} broke: {exc}"


async def _diagnose(address: str, identity: Identity) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=identity.ca.decode())
    joining.load_identity(context, identity)
    context.set_alpn_protocols(["h2"])
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = infos[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, where)
        reader, writer = await joining.streams_over(
            sock, context, server_side=False, host=CLUSTER_NAME, timeout_s=TIMEOUT_S
        )
    except BaseException:
        sock.close()
        raise
    try:
        # With TLS 1.3 the server looks at our certificate after we are done: its verdict comes first.
        if await reader.read(1):
            return ""
    finally:
        await joining.end_streams(writer)
    return await _ask_why(host, port, address, identity)


async def _ask_why(host: str, port: int, address: str, identity: Identity) -> str:
    """gRPC closes without a word on a certificate that it does not accept. A head can be asked."""
    try:
        verdict = await joining.ask_verdict(host, port, identity.certificate)
    except (OSError, EOFError, ValueError):
        verdict = ""
    if verdict:
        return f"{address} does not accept this node's certificate: {verdict}"
    return f"{address} closes connections without a word: it is about to end, or to begin"
