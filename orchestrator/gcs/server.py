"""The head's process without its `main`: the port, the gRPC service, the clock, around `Head` and `Shell`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from orchestrator.gcs import messages, wire
from orchestrator.gcs.bundle_choice import BundleChoice
from orchestrator.gcs.doors import Doors
from orchestrator.gcs.head import Head
from orchestrator.gcs.messages import Heartbeat, Leaving, Register, ToNode
from orchestrator.gcs.nodes import HealthPolicy
from orchestrator.gcs.requests import Answer, Refused, Request
from orchestrator.gcs.shell import Shell
from orchestrator.gcs.storage import Rows, Storage
from orchestrator.rpc import channels
from orchestrator.rpc.codec import UnknownMessage
from orchestrator.rpc.credentials import Authority, Identity
from orchestrator.rpc.doorway import Doorway
from orchestrator.rpc.generated import gcs_pb2 as pb
from orchestrator.rpc.joining import JoinDesk
from orchestrator.rpc.versions import Versions

#: How often the clock is looked at and changes of the view go out.
TICK_S = 0.1
#: What may wait to be sent to one node; one that takes nothing is cut off, and gets a snapshot when it is
#: back.
OUTBOX_MAX = 10_000
#: Calls of one node that wait for their answer at a time.
CALLS_PER_NODE_MAX = 2000
REGISTER_TIMEOUT_S = 10.0


class HeadConfig(NamedTuple):
    """What a head is started with."""

    authority: Authority
    #: What the head itself shows.
    identity: Identity
    versions: Versions
    #: Where the private Unix socket may lie.
    session_dir: str
    cluster_id: str
    #: See `GroupTable`.
    refuse_after_s: float | None
    policy: HealthPolicy


class _Session:
    """One stream to a node."""

    __slots__ = ("closed", "has_news", "outbox")

    def __init__(self) -> None:
        self.outbox: deque[ToNode] = deque()
        self.has_news = asyncio.Event()
        self.closed = False


class GcsServer:
    """Serves from `start` to `stop`."""

    def __init__(
        self,
        config: HeadConfig,
        storage: Storage,
        rows: Rows,
        sock: socket.socket,
        complain: Callable[[str], None],
    ) -> None:
        self._config = config
        self._complain = complain
        self._sessions: dict[int, _Session] = {}
        self._sessions_count = 0
        self._replies: dict[tuple[int, int], list[asyncio.Future[Answer]]] = {}
        self._calls_count: dict[int, int] = {}
        self._own_calls_count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self.head = Head(
            rows,
            cluster_id=config.cluster_id,
            # Milliseconds since 1970 and some random bits: no two heads of a cluster have the same.
            epoch=int(time.time() * 1000) << 20 | int.from_bytes(os.urandom(2), "big"),
            now_s=time.monotonic(),
            choose=BundleChoice(),
            policy=config.policy,
            refuse_after_s=config.refuse_after_s,
            storage=storage.description,
        )
        self.shell = Shell(storage, self._send, self._close, self._reply)
        self._doors = Doors(self.head.nodes, self._nobody_listens)
        self._socket_path = os.path.join(config.session_dir, "gcs.sock")
        desk = JoinDesk(config.authority, config.identity, config.versions, self.head.cluster_id)
        self.doorway = Doorway(sock, desk, self._socket_path, complain)
        self.doorway.counts = self.head.counts

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin to serve. What the storage needs first is stored when this returns."""
        handlers = {
            wire.SERVICE: {
                wire.SESSION: channels.bidirectional(self._session, pb.FromNode, pb.ToNode),
                wire.CALL: channels.unary(self._call, pb.Request, pb.Answer),
            }
        }
        if os.path.exists(self._socket_path):
            os.unlink(self._socket_path)  # of a head that was killed; the session's directory is ours alone
        self._server, _ = channels.make_server(
            f"unix:{self._socket_path}",
            self._config.identity,
            self._config.versions,
            handlers,
            on_refused=lambda peer, text: self.doorway.refuse(
                "versions_refused", f"a node was refused: {text}"
            ),
        )
        await self._server.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.shell.run())]
        self.shell.perform(self.head.begin())
        for run in (self._tick, self.doorway.run, self._doors.run):
            self._tasks.append(loop.create_task(run()))

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            StorageError: the storage failed. Nothing was said that is not stored.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """End all streams, and give everything back but the storage."""
        for session in list(self._sessions):
            self._close(session)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop(0.2)
        if os.path.exists(self._socket_path):
            os.unlink(self._socket_path)

    async def _tick(self) -> None:
        while True:
            self.shell.perform(self.head.tick(time.monotonic(), time.time()))
            await asyncio.sleep(TICK_S)

    def _nobody_listens(self, index: int) -> None:
        self.shell.perform(self.head.nobody_listens(index, time.monotonic(), time.time()))

    async def ask(self, request: Request) -> Answer:
        """Answer a question of this process itself. What it changes is done at once, and stored on return."""
        self._own_calls_count += 1
        number = self._own_calls_count
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._replies[0, number] = [future]
        self.shell.perform(self.head.own_call(number, request, time.time()))
        return await future

    # ------------------------------------------------------------ what the shell says

    def _send(self, number: int, event: ToNode) -> None:
        session = self._sessions.get(number)
        if session is None or session.closed:
            return
        if len(session.outbox) >= OUTBOX_MAX:
            self._complain(f"a node takes nothing: {len(session.outbox)} messages wait for it; it is cut off")
            self._close(number)
            return
        session.outbox.append(event)
        session.has_news.set()

    def _close(self, number: int) -> None:
        session = self._sessions.get(number)
        if session is not None:
            session.closed = True
            session.has_news.set()

    def _reply(self, node: int, number: int, answer: Answer) -> None:
        for future in self._replies.pop((node, number), ()):
            if not future.done():
                future.set_result(answer)

    # ------------------------------------------------------------ the service

    async def _session(self, requests: AsyncIterator[pb.FromNode], context: Any) -> AsyncIterator[pb.ToNode]:
        try:
            message = wire.FROM_NODE.take(
                await asyncio.wait_for(requests.__aiter__().__anext__(), REGISTER_TIMEOUT_S)
            )
        except (StopAsyncIteration, asyncio.TimeoutError, UnknownMessage):
            self.doorway.refuse(
                "bad_sessions", f"{channels.caller_of(context)} began a session and did not register"
            )
            return
        if not isinstance(message, Register) or message.spec.node_id != channels.caller_of(context):
            text = (
                f"{channels.caller_of(context)[:40]!r} (by its certificate) began a session with "
                f"{type(message).__name__} as {getattr(getattr(message, 'spec', None), 'node_id', '')[:40]!r}"
            )
            self.doorway.refuse("bad_sessions", text)
            yield wire.TO_NODE.put(messages.MustLeave(f"it is not who it says it is: {text}"))
            return
        self._sessions_count += 1
        number, session = self._sessions_count, _Session()
        self._sessions[number] = session
        reader = asyncio.get_running_loop().create_task(self._read(number, requests))
        try:
            self.shell.perform(self.head.register(number, message, time.monotonic(), time.time()))
            while True:
                while session.outbox:
                    yield wire.TO_NODE.put(session.outbox.popleft())
                if session.closed:
                    return
                session.has_news.clear()
                await session.has_news.wait()
        finally:
            reader.cancel()
            del self._sessions[number]
            self.shell.perform(self.head.disconnected(number, time.monotonic()))

    async def _read(self, number: int, requests: AsyncIterator[pb.FromNode]) -> None:
        try:
            async for request in requests:
                try:
                    message = wire.FROM_NODE.take(request)
                except UnknownMessage as exc:
                    self.doorway.refuse("unknown_messages", str(exc))
                    continue
                match message:
                    case Heartbeat():
                        self.shell.perform(self.head.heartbeat(number, message, time.monotonic()))
                    case Leaving():
                        self.shell.perform(self.head.leaving(number, message, time.time()))
                    case _:
                        self.doorway.refuse("unknown_messages", "a node registered twice in one session")
        finally:
            self._close(number)

    async def _call(self, request: pb.Request, context: Any) -> pb.Answer:
        try:
            call = wire.take_call(request)
        except UnknownMessage as exc:
            self.doorway.refuse("unknown_messages", str(exc))
            return wire.ANSWER.put(Refused("unsupported", f"this head does not know {exc}"))  # type: ignore[no-any-return]
        record = self.head.nodes.get(call.node)
        if record is None or record.spec.node_id != channels.caller_of(context):
            text = f"{channels.caller_of(context)[:40]} asked in the name of node {call.node}"
            self.doorway.refuse("bad_calls", text)
            return wire.ANSWER.put(Refused("dead", text))  # type: ignore[no-any-return]
        waiting = self._calls_count.get(call.node, 0)
        if waiting >= CALLS_PER_NODE_MAX or self.shell.is_stuck:
            await context.abort(channels.grpc.StatusCode.UNAVAILABLE, "the head has too many calls under way")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._replies.setdefault((call.node, call.number), []).append(future)
        self._calls_count[call.node] = waiting + 1
        try:
            self.shell.perform(self.head.call(call, time.time()))
            return wire.ANSWER.put(await future)  # type: ignore[no-any-return]
        finally:
            self._calls_count[call.node] -= 1
            if not self._calls_count[call.node]:
                del self._calls_count[call.node]
            futures = self._replies.get((call.node, call.number))
            if futures is not None and future in futures:
                futures.remove(future)
                if not futures:
                    del self._replies[call.node, call.number]
