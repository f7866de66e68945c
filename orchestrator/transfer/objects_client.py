"""The gRPC service `Objects`, at the end that wants objects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from orchestrator.rpc.credentials import CLUSTER_NAME
from orchestrator.rpc.generated import objects_pb2 as pb
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import OBJECT_BYTES_MAX, End
from orchestrator.transfer.objects_service import SERVICE, SIZE_KEY, options
from orchestrator.transfer.quiet_grpc import grpc
from orchestrator.transfer.security import Security
from orchestrator.transfer.wire import Request, WireError

#: For a question with a short answer.
CALL_TIMEOUT_S = 10.0

END_OF_CODE = {
    grpc.StatusCode.NOT_FOUND: End.ABSENT,
    grpc.StatusCode.DATA_LOSS: End.DIFFERENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: End.BUSY,
    grpc.StatusCode.INVALID_ARGUMENT: End.WRONG,
    grpc.StatusCode.UNIMPLEMENTED: End.WRONG,
}


class Peer:
    """One other node's service."""

    def __init__(self, address: NodeAddress, own_node: Callable[[], int], security: Security) -> None:
        self.address = address
        self._own_node = own_node
        settings = [
            *options(),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Two clients in one process share no connection.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        identity = security.identity
        if identity is None:
            self._channel = grpc.insecure_channel(address.target, settings)
        else:
            credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
            settings.append(("grpc.ssl_target_name_override", CLUSTER_NAME))
            self._channel = grpc.secure_channel(address.target, credentials, settings)

    def _unary(self, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}", type(request).SerializeToString, answer.FromString
        )
        return call(request, timeout=CALL_TIMEOUT_S)

    def locate(self, object_id: bytes) -> tuple[bool, int | None]:
        """Return (the node has all of it, its size if the node has any of it).

        Raises:
            grpc.RpcError: no answer.
            WireError: a senseless one.
        """
        answer = self._unary("Locate", pb.LocateRequest(object_ids=[object_id]), pb.LocateAnswer)
        if len(answer.objects) != 1 or answer.objects[0].object_id != object_id:
            raise WireError("answers a question that was not asked")
        found = answer.objects[0]
        return found.complete, found.size_bytes if found.HasField("size_bytes") else None

    def open_data(self) -> tuple[int, bytes]:
        """Return (port, token) for a direct connection; port 0: there are none. Raises grpc.RpcError."""
        answer = self._unary("OpenData", pb.OpenDataRequest(node=self._own_node()), pb.OpenDataAnswer)
        return answer.port, answer.token

    def cancel(self, object_id: bytes) -> int:
        """End what is being sent of an object to this node. Raises grpc.RpcError."""
        request = pb.CancelRequest(object_id=object_id, node=self._own_node())
        return int(self._unary("Cancel", request, pb.CancelAnswer).ended)

    def pull(self, request: Request) -> Any:
        """Return the call: an iterator of messages, with `cancel()`. It raises grpc.RpcError as it goes."""
        message = pb.PullRequest(
            object_id=request.object_id,
            offset=request.offset,
            size_bytes=request.size_bytes,
            prefix_crc=request.prefix_crc,
            node=self._own_node(),
        )
        call = self._channel.unary_stream(f"/{SERVICE}/Pull", pb.PullRequest.SerializeToString)
        return call(message)

    def close(self) -> None:
        """End all calls."""
        self._channel.close()


def size_in(metadata: Any) -> int | None:
    """Return the object's size, from what came before the chunks. Raises WireError."""
    for key, value in metadata or ():
        if key == SIZE_KEY:
            if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20):
                raise WireError(f"claims an object of {value!r} bytes")
            if int(value) > OBJECT_BYTES_MAX:
                raise WireError(f"claims an object of {value} bytes")
            return int(value)
    return None


class Peers:
    """The services of all nodes that were spoken to."""

    def __init__(self, own_node: Callable[[], int], security: Security) -> None:
        self._own_node = own_node
        self._security = security
        self._lock = threading.Lock()
        self._peers: dict[int, Peer] = {}
        self._closed = False

    def get(self, address: NodeAddress) -> Peer:
        """Return a node's service. It connects when it is used. Raises ValueError after `close`."""
        with self._lock:
            if self._closed:
                raise ValueError("this node is leaving")
            peer = self._peers.get(address.node)
            if peer is None or peer.address != address:
                if peer is not None:
                    peer.close()
                peer = self._peers[address.node] = Peer(address, self._own_node, self._security)
            return peer

    def forget(self, node: int) -> None:
        """Let a dead node's go."""
        with self._lock:
            peer = self._peers.pop(node, None)
        if peer is not None:
            peer.close()

    def close(self) -> None:
        """Let all go, and end their calls."""
        with self._lock:
            self._closed = True
            peers = list(self._peers.values())
            self._peers.clear()
        for peer in peers:
            peer.close()
