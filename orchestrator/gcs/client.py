"""A node's side of the session with the head: it survives the head's restarts, and says so when it waits.

One asyncio client per node process. A request is sent again and again under the same number until it is
answered, so whoever asks sees a slow head and never a broken one; `answered` has it take effect once. A
connection that breaks is made anew, with back-off, and the node registers again under its index.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.gcs import messages, wire
from orchestrator.gcs.call_book import CallBook
from orchestrator.gcs.messages import FromNode, Heartbeat, Leaving, LinkEvent, NodeSpec
from orchestrator.gcs.requests import Answer, Refused, Request
from orchestrator.rpc import channels
from orchestrator.rpc.codec import UnknownMessage
from orchestrator.rpc.credentials import Identity, utc_now
from orchestrator.rpc.deadlines import BackOff, Explainer
from orchestrator.rpc.diagnosis import diagnose
from orchestrator.rpc.generated import gcs_pb2 as pb
from orchestrator.rpc.versions import Versions

HEARTBEAT_INTERVAL_S = 0.5
#: A heartbeat with news is sent sooner, but no sooner than this after the one before.
NEWS_INTERVAL_S = 0.05
#: An attempt that has no answer by then is repeated.
CALL_TIMEOUT_S = 10.0
#: A head that says nothing for so long is taken for gone: it sends views, and gRPC pings.
CONNECT_TIMEOUT_S = 5.0
#: After this a wait is explained.
EXPLAIN_AFTER_S = 5.0


class Peer(NamedTuple):
    """Whom to connect to, and as whom."""

    address: str
    identity: Identity
    versions: Versions
    spec: NodeSpec


class GcsClient:
    """Runs in one asyncio loop.

    Args:
        peer: the head, and this node.
        on_event: told what comes down, in order.
        rng: for back-off.
    """

    def __init__(self, peer: Peer, on_event: Callable[[LinkEvent], None], rng: random.Random) -> None:
        self._peer = peer
        self._on_event = on_event
        self._back_off = BackOff(rng)
        self._rng = rng
        self._index = 0
        self._cluster_id = ""
        #: Epoch and version of the newest view that came down whole.
        self._seen = (0, 0)
        self._heartbeat = Heartbeat(peer.spec.total)
        self._has_news = asyncio.Event()
        self._leaving: Leaving | None = None
        self._is_over = ""
        #: Set while a session stands.
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._book = CallBook()
        self._channel: channels.grpc.aio.Channel | None = None
        self._explainer = Explainer(first_s=EXPLAIN_AFTER_S)

    # ------------------------------------------------------------ the session

    def report(self, heartbeat: Heartbeat) -> None:
        """Say this with the next heartbeat, which is soon."""
        self._heartbeat = heartbeat
        self._has_news.set()

    async def run(self) -> None:
        """Keep a session with the head until the node leaves, or must; then return."""
        loop = asyncio.get_running_loop()
        try:
            while not self._is_over:
                cause = await self._one_session()
                if self._connected.is_set():
                    self._connected.clear()
                    self._on_event(messages.Disconnected(cause))
                    self._back_off.reset()
                if self._is_over:
                    break
                waited_s = self._explainer.waiting(loop.time())
                if waited_s is not None:
                    text = f"waiting for the head at {self._peer.address} for {waited_s:.0f} s: {cause}"
                    self._on_event(messages.Explain(text))
                await asyncio.sleep(self._back_off.next_s())
        finally:
            self._is_over = self._is_over or "the link was closed"
            self._ended.set()
            await self._drop_channel()

    async def leave(self, reason: str) -> None:
        """Tell the head that the node ends, and wait until it has heard it, if it can be reached."""
        self._leaving = Leaving(reason)
        self._has_news.set()
        if not self._connected.is_set():
            self._is_over = reason
        await self._ended.wait()

    async def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    async def _one_session(self) -> str:
        """Hold a session as long as it lasts; return why it ended."""
        objection = self._peer.identity.objection(utc_now())
        if objection:
            return objection
        await self._drop_channel()
        self._channel = channels.open_channel(self._peer.address, self._peer.identity)
        stream = self._channel.stream_stream(
            f"/{wire.SERVICE}/{wire.SESSION}",
            request_serializer=pb.FromNode.SerializeToString,
            response_deserializer=pb.ToNode.FromString,
        )(metadata=self._peer.versions.metadata())
        writer: asyncio.Task[None] | None = None
        try:
            await self._write(
                stream, messages.Register(self._peer.spec, self._index, self._cluster_id, *self._seen)
            )
            first = await asyncio.wait_for(stream.read(), CONNECT_TIMEOUT_S)
            if first is channels.grpc.aio.EOF:
                return await self._cause_of(stream)
            self._take(first)
            writer = asyncio.get_running_loop().create_task(self._write_all(stream))
            while True:
                message = await stream.read()
                if message is channels.grpc.aio.EOF:
                    return await self._cause_of(stream)
                self._take(message)
        except asyncio.TimeoutError:
            return f"it did not answer within {CONNECT_TIMEOUT_S:g} s"
        except (channels.grpc.aio.AioRpcError, asyncio.InvalidStateError, channels.grpc.aio.UsageError):
            return await self._cause_of(stream)
        finally:
            if writer is not None:
                writer.cancel()
            stream.cancel()

    def _take(self, message: pb.ToNode) -> None:
        try:
            event = wire.TO_NODE.take(message)
        except UnknownMessage as exc:
            self._on_event(
                messages.Explain(f"the head sent {exc}; it is newer than this node, which ignores it")
            )
            return
        match event:
            case messages.Registered(index, cluster_id, _):
                self._index, self._cluster_id = index, cluster_id
                waited_s = self._explainer.over(asyncio.get_running_loop().time())
                if waited_s is not None:
                    self._on_event(messages.Explain(f"the head answers again, after {waited_s:.0f} s"))
                self._on_event(messages.Connected())
                self._on_event(event)
                self._connected.set()
                return
            case messages.MustLeave(reason):
                self._is_over = self._is_over or reason
                self._ended.set()
            case messages.View(epoch, version) if version:
                self._seen = (epoch, version)
        self._on_event(event)

    async def _write(self, stream: Any, message: FromNode) -> None:
        await stream.write(wire.FROM_NODE.put(message))

    async def _write_all(self, stream: Any) -> None:
        try:
            while True:
                if self._leaving is not None:
                    await self._write(stream, self._leaving)
                    self._is_over = self._leaving.reason
                    await stream.done_writing()
                    return
                self._has_news.clear()
                await self._write(stream, self._heartbeat)
                await asyncio.sleep(NEWS_INTERVAL_S)
                try:
                    await asyncio.wait_for(self._has_news.wait(), HEARTBEAT_INTERVAL_S - NEWS_INTERVAL_S)
                except asyncio.TimeoutError:
                    pass
        except (channels.grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader sees it too, and says why

    async def _cause_of(self, stream: Any) -> str:
        """Return why a session ended, for people."""
        try:
            code, details = await stream.code(), await stream.details()
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        if code is channels.grpc.StatusCode.FAILED_PRECONDITION:
            self._refused(f"the head refused this node: {details}")
            return self._is_over
        if code is channels.grpc.StatusCode.UNAVAILABLE and not self._connected.is_set():
            found = await diagnose(self._peer.address, self._peer.identity)
            return found or str(details)
        return f"{details or 'the connection ended'} ({code.name})"

    def _refused(self, text: str) -> None:
        self._is_over = text
        self._ended.set()
        self._on_event(messages.MustLeave(text))

    # ------------------------------------------------------------ requests

    async def call(self, request: Request) -> Answer:
        """Ask the head. Waits as long as it takes, and explains a long wait.

        The answer is `Refused("dead", ...)` if the node is, or becomes, no part of the cluster.
        """
        loop = asyncio.get_running_loop()
        number = self._book.enter(request)
        back_off, explainer = BackOff(self._rng), Explainer(first_s=EXPLAIN_AFTER_S)
        cause = "there is no session with it"
        try:
            while True:
                waited_s = explainer.waiting(loop.time())
                if waited_s is not None:
                    name = type(request).__name__
                    where = f"the head at {self._peer.address}"
                    text = f"{name} has waited for {where} for {waited_s:.0f} s: {cause}"
                    self._on_event(messages.Explain(text))
                if not await self._wait_for_session():
                    if self._is_over:
                        return Refused("dead", self._is_over)
                    continue
                answer, cause = await self._attempt(request, number)
                if answer is not None:
                    return answer
                await asyncio.sleep(back_off.next_s())
        finally:
            self._book.settle(number)

    async def _wait_for_session(self) -> bool:
        if self._is_over:
            return False
        if self._connected.is_set():
            return True
        waits = [asyncio.ensure_future(event.wait()) for event in (self._connected, self._ended)]
        try:
            await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._connected.is_set() and not self._is_over

    async def _attempt(self, request: Request, number: int) -> tuple[Answer | None, str]:
        """Ask once; return the answer, or None and why there is none."""
        channel = self._channel
        if channel is None:
            return None, "there is no session with it"
        method = channel.unary_unary(
            f"/{wire.SERVICE}/{wire.CALL}",
            request_serializer=pb.Request.SerializeToString,
            response_deserializer=pb.Answer.FromString,
        )
        message = wire.put_call(self._book.call(self._index, number))
        try:
            answer: Answer = wire.ANSWER.take(
                await method(message, timeout=CALL_TIMEOUT_S, metadata=self._peer.versions.metadata())
            )
            return answer, ""
        except UnknownMessage as exc:
            return Refused("unsupported", f"the head answered with {exc}"), ""
        except channels.grpc.aio.AioRpcError as exc:
            if exc.code() is channels.grpc.StatusCode.RESOURCE_EXHAUSTED:
                text = f"{type(request).__name__} does not fit into a message: {exc.details()}"
                return Refused("too_large", text), ""
            return None, f"{exc.details()} ({exc.code().name})"
        except (asyncio.InvalidStateError, channels.grpc.aio.UsageError) as exc:
            return None, str(exc)
        except asyncio.CancelledError:
            # A channel that is dropped cancels its calls; that is not the caller's cancellation.
            if channel is not self._channel and not self._is_over:
                return None, "the connection was made anew"
            raise
