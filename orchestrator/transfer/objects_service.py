"""The gRPC service `Objects`, at the end that has the objects.

A server of its own with threads: a stream of chunks is served twice as fast by a thread as by gRPC's asyncio
server, and keeps nobody else's event loop waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.rpc.generated import objects_pb2 as pb
from orchestrator.transfer.chunks import CHUNK_BYTES
from orchestrator.transfer.data_server import Tokens
from orchestrator.transfer.landing import LandingGone
from orchestrator.transfer.outgoing import Library
from orchestrator.transfer.quiet_grpc import grpc
from orchestrator.transfer.security import Security
from orchestrator.transfer.sending import Counters, Sender
from orchestrator.transfer.wire import OBJECT_ID_BYTES, Answer, Request, Status

SERVICE = "orchestrator.objects.Objects"
SIZE_KEY = "size-bytes"
#: Calls at once. A chunked pull is one for as long as it takes, and while it waits for its turn; questions
#: must not wait behind those.
THREADS_MAX = 128
#: Objects in one question.
LOCATE_MAX = 4096
#: A chunk with what is around it; nothing else that is said here is larger.
MESSAGE_BYTES_MAX = CHUNK_BYTES + (1 << 12)
KEEPALIVE_MS = 5000

CODE_OF = {
    Status.ABSENT: grpc.StatusCode.NOT_FOUND,
    Status.DIFFERENT: grpc.StatusCode.DATA_LOSS,
    Status.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Status.WRONG: grpc.StatusCode.INVALID_ARGUMENT,
}


def options() -> list[tuple[str, Any]]:
    """Return what both ends set."""
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.lookahead_bytes", 4 << 20),
        ("grpc.http2.max_frame_size", 1 << 20),
        ("grpc.enable_http_proxy", 0),
        ("grpc.so_reuseport", 0),
    ]


class ObjectsService:
    """The methods. Each runs in a thread of the server's."""

    def __init__(
        self,
        library: Library,
        sender: Sender,
        tokens: Tokens,
        counters: Counters,
        data_port: int,
    ) -> None:
        self._library = library
        self._sender = sender
        self._tokens = tokens
        self._counters = counters
        self._data_port = data_port

    def locate(self, request: Any, context: Any) -> Any:
        """What this node has of some objects."""
        if len(request.object_ids) > LOCATE_MAX:
            self._refuse(context, f"{len(request.object_ids)} objects in one question; at most {LOCATE_MAX}")
        answer = pb.LocateAnswer()
        for object_id in request.object_ids:
            self._check(object_id, context)
            complete, size_bytes = self._library.locate(object_id)
            answer.objects.add(object_id=object_id, complete=complete, size_bytes=size_bytes)
        return answer

    def pull(self, request: Any, context: Any) -> Iterator[bytes]:
        """The bytes of an object, in chunks."""
        self._check(request.object_id, context)
        size_bytes = request.size_bytes if request.HasField("size_bytes") else None
        wanted = Request(request.object_id, request.offset, size_bytes, request.prefix_crc)
        refusal: list[Answer] = []

        def head(answer: Answer) -> bool:
            if answer.status is Status.OK:
                context.send_initial_metadata(((SIZE_KEY, str(answer.size_bytes)),))
                return True
            refusal.append(answer)
            return False

        try:
            yield from self._sender.stream(request.node, wanted, context.cancel, head)
        except LandingGone as error:
            context.abort(grpc.StatusCode.ABORTED, str(error))
        if refusal:
            answer = refusal[0]
            context.send_initial_metadata(((SIZE_KEY, str(answer.size_bytes)),))
            context.abort(CODE_OF[answer.status], answer.status.name.lower())

    def cancel(self, request: Any, context: Any) -> Any:
        """End what is being sent of an object to the caller."""
        self._check(request.object_id, context)
        return pb.CancelAnswer(ended=self._sender.cancel(request.node, request.object_id))

    def open_data(self, request: Any, context: Any) -> Any:
        """A token for a direct connection."""
        token = self._tokens.make(request.node) if self._data_port else None
        if token is None:
            return pb.OpenDataAnswer()
        return pb.OpenDataAnswer(port=self._data_port, token=token)

    def _check(self, object_id: bytes, context: Any) -> None:
        if len(object_id) != OBJECT_ID_BYTES:
            self._refuse(context, f"an object id of {len(object_id)} bytes")

    def _refuse(self, context: Any, why: str) -> None:
        self._counters.refuse(f"{context.peer()}: {why}")
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the methods as gRPC wants them."""

        def unary(method: Any, request: Any, answer: Any) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(method, request.FromString, answer.SerializeToString)

        return {
            "Locate": unary(self.locate, pb.LocateRequest, pb.LocateAnswer),
            "Pull": grpc.unary_stream_rpc_method_handler(self.pull, pb.PullRequest.FromString),
            "Cancel": unary(self.cancel, pb.CancelRequest, pb.CancelAnswer),
            "OpenData": unary(self.open_data, pb.OpenDataRequest, pb.OpenDataAnswer),
        }


class ObjectsServer:
    """The service, listening."""

    def __init__(self, service: ObjectsService, host: str, security: Security, port: int = 0) -> None:
        """Raises OSError if it can't listen there."""
        self._threads = ThreadPoolExecutor(THREADS_MAX, "transfer-grpc")
        self._server = grpc.server(self._threads, options=options(), maximum_concurrent_rpcs=None)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, service.handlers()),)
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        identity = security.identity
        try:
            if identity is None:
                self.port = self._server.add_insecure_port(address)
            else:
                pair = (identity.key, identity.certificate)
                credentials = grpc.ssl_server_credentials([pair], identity.ca, require_client_auth=True)
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            self._threads.shutdown()
            raise OSError(f"can't listen on {address}: {error}") from None

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def close(self) -> None:
        """End all calls."""
        self._server.stop(grace=None).wait()
        self._threads.shutdown()
