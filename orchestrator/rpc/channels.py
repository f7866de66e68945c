"""gRPC channels and servers of the cluster: mutual TLS, bounded messages, keep-alive, versions checked.

Both ends show a certificate of the cluster's CA. A peer is verified under the name that all certificates
share (`credentials.CLUSTER_NAME`), not under its address: addresses change, and whoever has a certificate is
of the cluster. Which node a caller is, its certificate's common name says (`caller_of`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Forking with a running gRPC is never done: the zygote is forked before grpc is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Its own log lines have no reader; what goes wrong arrives as a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from orchestrator.rpc import listening
from orchestrator.rpc.credentials import CLUSTER_NAME, Identity
from orchestrator.rpc.join_string import split_address
from orchestrator.rpc.versions import Versions, from_metadata, objection

_UNIX = "unix:"
#: Of a socket in the file system.
_SOCKET_PATH_BYTES_MAX = 107

#: The largest message, at either end: what is larger belongs into the object store. A gRPC message is held in
#: memory whole, so this times the calls in flight is what a peer can make us keep.
MESSAGE_SIZE_MAX_BYTES = 32 << 20
#: A peer whose machine is gone sends no reset: TCP alone would notice after many minutes.
KEEPALIVE_INTERVAL_S = 5.0
KEEPALIVE_TIMEOUT_S = 5.0
#: gRPC's own reconnection within one channel; above it there is `deadlines.BackOff`.
RECONNECT_MOST_S = 1.0

_MS = 1000


def _common_options(message_size_max_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", message_size_max_bytes),
        ("grpc.max_send_message_length", message_size_max_bytes),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_INTERVAL_S * _MS)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * _MS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A proxy of the user's environment has no business between nodes.
        ("grpc.enable_http_proxy", 0),
    ]


def open_channel(
    target: str, identity: Identity, *, message_size_max_bytes: int = MESSAGE_SIZE_MAX_BYTES
) -> grpc.aio.Channel:
    """Return a channel to `host:port`; it connects when it is used. It is the caller's to close."""
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    options = [
        *_common_options(message_size_max_bytes),
        ("grpc.ssl_target_name_override", CLUSTER_NAME),
        ("grpc.default_authority", CLUSTER_NAME),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", int(RECONNECT_MOST_S * _MS)),
        # Channels of two clients in one process (tests, a head with a node) share no connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.secure_channel(target, credentials, options)


def make_server(
    address: str,
    identity: Identity,
    versions: Versions,
    handlers: Mapping[str, Mapping[str, grpc.RpcMethodHandler]],
    *,
    on_refused: Callable[[str, str], None] = lambda peer, text: None,
    message_size_max_bytes: int = MESSAGE_SIZE_MAX_BYTES,
) -> tuple[grpc.aio.Server, int]:
    """Return a server that is not started yet, and the port it is bound to.

    Args:
        address: `host:port` (port 0 for any), or `unix:path`.
        identity: what it shows to clients, who must show a certificate of the same CA.
        versions: what clients must have, too.
        handlers: service to method to handler.
        on_refused: told of each call that was refused for its versions: peer, and why.
        message_size_max_bytes: larger messages are refused by gRPC, in both directions.

    Raises:
        OSError: the address is taken, or not one of this machine.
    """
    if not address.startswith(_UNIX):
        # gRPC does not say why it cannot listen, and never gives back what it needs to find out.
        listening.bind(*split_address(address)).close()
    options = [
        *_common_options(message_size_max_bytes),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_INTERVAL_S * _MS / 2)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE_INTERVAL_S * _MS / 2)),
    ]
    server = grpc.aio.server(interceptors=[_VersionCheck(versions, on_refused)], options=options)
    for service, methods in handlers.items():
        generic = grpc.method_handlers_generic_handler(service, dict(methods))
        server.add_generic_rpc_handlers((generic,))
    credentials = grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)], identity.ca, require_client_auth=True
    )
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as exc:
        why = "it is taken, or not an address of this machine"
        if address.startswith(_UNIX) and len(os.fsencode(address[len(_UNIX) :])) > _SOCKET_PATH_BYTES_MAX:
            why = f"a socket's path has {_SOCKET_PATH_BYTES_MAX} bytes at most; choose a shorter directory"
        raise OSError(f"cannot listen on {address}: {why}") from exc
    return server, port


def unary(
    handler: Callable[[Any, Any], Awaitable[Any]], request: Any, response: Any
) -> grpc.RpcMethodHandler:
    """Return a handler of one message in, one out; `request` and `response` are message classes."""
    return grpc.unary_unary_rpc_method_handler(
        handler, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def bidirectional(handler: Callable[[Any, Any], Any], request: Any, response: Any) -> grpc.RpcMethodHandler:
    """Return a handler of a stream in each direction."""
    return grpc.stream_stream_rpc_method_handler(
        handler, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the node id in the certificate of whoever calls; "" if it has none."""
    names = list(context.auth_context().get("x509_common_name", ()))
    return names[0].decode(errors="replace") if names else ""


class _VersionCheck(grpc.aio.ServerInterceptor):
    """Refuses callers with other versions, before their message is read."""

    def __init__(self, versions: Versions, on_refused: Callable[[str, str], None]) -> None:
        self._versions = versions
        self._on_refused = on_refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        headers = {
            key: value
            for key, value in handler_call_details.invocation_metadata or ()
            if isinstance(value, str)
        }
        text = objection(self._versions, from_metadata(headers))
        handler = await continuation(handler_call_details)
        if not text or handler is None:
            return handler
        on_refused = self._on_refused

        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            on_refused(f"{context.peer()} {caller_of(context)}", text)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)

        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(refuse)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(refuse)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)
