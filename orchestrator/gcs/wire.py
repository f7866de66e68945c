"""Messages as protobuf: which union is which message, and the names of the methods."""

from __future__ import annotations

from orchestrator.gcs import messages, requests
from orchestrator.gcs.requests import Call
from orchestrator.rpc.codec import Union
from orchestrator.rpc.generated import gcs_pb2 as pb

SERVICE = "orchestrator.gcs.Gcs"
SESSION, CALL = "Session", "Call"

FROM_NODE = Union(messages.FromNode, pb.FromNode)
TO_NODE = Union(messages.ToNode, pb.ToNode)
REQUEST = Union(requests.Request, pb.Request)
ANSWER = Union(requests.Answer, pb.Answer)


def put_call(call: Call) -> pb.Request:
    """Return a call as its message."""
    message: pb.Request = REQUEST.put(call.request)
    message.node, message.number, message.answered_below = call.node, call.number, call.answered_below
    return message


def take_call(message: pb.Request) -> Call:
    """Return the call that a message holds.

    Raises:
        UnknownMessage: it is of a kind that is not known here.
    """
    return Call(message.node, message.number, message.answered_below, REQUEST.take(message))
