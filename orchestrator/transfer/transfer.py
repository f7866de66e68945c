"""`ObjectTransfer`: all of this for a node process.

One thread, `transfer`, runs the pull manager: it takes events from a queue and performs the instructions, of
which those that may take long go to other threads. What a node is to know, `Pulled` and `Lost`, goes into
another queue, and an eventfd becomes readable, so that the node's own loop needs no lock and waits for
nothing.
"""

from __future__ import annotations

import os
import queue
import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any

from orchestrator.common.clock import Clock, monotonic
from orchestrator.common.priority import Priority
from orchestrator.transfer import events as ev
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import End, Lost, Pulled, Refusal
from orchestrator.transfer.landing import Landing, Landings
from orchestrator.transfer.outgoing import Library
from orchestrator.transfer.pull_manager import PullManager
from orchestrator.transfer.security import Security
from orchestrator.transfer.sending import Counters, Sender
from orchestrator.transfer.sockets import STALL_TIMEOUT_S
from orchestrator.transfer.stores import Refused, TransferStore

if TYPE_CHECKING:
    from orchestrator.transfer.fetching import Attempt, Fetcher

#: Attempts at once: for objects above `pull_manager.SMALL_BYTES_MAX`, and for smaller ones. Two streams fill
#: two cores; four keep the network busy while one waits for its source.
STREAMS_MAX = 4
SMALL_STREAMS_MAX = 8
#: Part of the store that objects on their way may take at once.
IN_FLIGHT_SHARE = 0.5
#: How often attempts are looked at that nothing comes from.
LOOK_S = 1.0
#: Objects whose restoring or creation may wait for a disk, at once.
CREATORS_MAX = 4


class ObjectTransfer:
    """Serves this node's objects to others, and brings theirs here."""

    def __init__(
        self,
        store: Any,
        node: int,
        host: str,
        security: Security,
        *,
        port: int = 0,
        direct: bool = True,
        bytes_max: int | None = None,
        rng: random.Random | None = None,
        clock: Clock = monotonic,
    ) -> None:
        """Nothing is started, no gRPC imported.

        Args:
            store: the node's plasma store.
            node: this node's index; 0 until `joined_as` says it.
            host: the address to listen on, which others reach it by.
            security: certificates, and whether the network is trusted.
            port: of the service; 0: any.
            direct: offer direct data connections, where `security` permits them.
            bytes_max: what may be under way at once; None: half of the store.
            rng: for back-off.
            clock: in seconds.
        """
        self._store = TransferStore(store)
        self._node = node
        self._host = host
        self._port = port
        self._direct = direct and security.direct
        self._security = security
        self._clock = clock
        limit = int(self._store.size_bytes * IN_FLIGHT_SHARE) if bytes_max is None else bytes_max
        self._pulls = PullManager(
            rng or random.Random(),
            bytes_max=limit,
            streams_max=STREAMS_MAX,
            small_streams_max=SMALL_STREAMS_MAX,
        )
        self.counters = Counters()
        self._landings = Landings()
        self._library = Library(self._store, self._landings)
        self._addresses: dict[int, NodeAddress] = {}
        self._attempts: dict[int, Attempt] = {}
        self._inbox: queue.SimpleQueue[ev.Event | None] = queue.SimpleQueue()
        self._outbox: deque[Pulled | Lost] = deque()
        self._wake = -1
        #: what was complained about, for the node's log
        self.complaints: deque[str] = deque(maxlen=100)

    # ------------------------------------------------------------ for the node's loop

    def start(self) -> NodeAddress:
        """Listen, and begin to work. Returns where others reach this node's objects. Raises OSError."""
        from orchestrator.transfer.data_server import DataServer, Tokens
        from orchestrator.transfer.fetching import Fetcher
        from orchestrator.transfer.objects_service import ObjectsServer, ObjectsService

        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sender = Sender(self._library, self.counters)
        tokens = Tokens(self._clock)
        self._data_server: DataServer | None = None
        try:
            if self._direct:
                self._data_server = DataServer(self._host, self._sender, tokens, self.counters)
            data_port = 0 if self._data_server is None else self._data_server.port
            self._service = ObjectsService(self._library, self._sender, tokens, self.counters, data_port)
            self._server = ObjectsServer(self._service, self._host, self._security, self._port)
        except OSError:
            if self._data_server is not None:
                self._data_server.close()
            os.close(self._wake)
            raise
        self._fetcher: Fetcher = Fetcher(lambda: self._node, self._security, self._clock)
        self._workers = ThreadPoolExecutor(STREAMS_MAX + SMALL_STREAMS_MAX, "transfer-fetch")
        self._creators = ThreadPoolExecutor(CREATORS_MAX, "transfer-create")
        self._thread = Thread(target=self._run, name="transfer", daemon=True)
        if self._data_server is not None:
            self._data_server.start()
        self._server.start()
        self._thread.start()
        return NodeAddress(self._node, self._host, self._server.port)

    def joined_as(self, node: int) -> None:
        """Learn this node's index, if it was not known at the start.

        To be called before anything is pulled.
        """
        self._node = node

    def fileno(self) -> int:
        """A descriptor that is readable while there are events to take."""
        return self._wake

    def take_events(self) -> list[Pulled | Lost]:
        """Return what has happened since the last time: nothing, now and then. Never waits."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        taken = []
        while self._outbox:
            taken.append(self._outbox.popleft())
        return taken

    def pull(
        self,
        object_id: bytes,
        sources: list[NodeAddress],
        priority: Priority,
        size_bytes: int | None = None,
    ) -> None:
        """Bring an object here. `Pulled` or `Lost` will tell.

        Args:
            object_id: its id. Said of one that is on its way, this adds sources and may make it more urgent.
            sources: nodes that have it, or are receiving it, the best first.
            priority: who waits for it.
            size_bytes: if that is known; otherwise a source is asked first.
        """
        for address in sources:
            self._addresses[address.node] = address
        nodes = tuple(address.node for address in sources if address.node != self._node)
        self._landings.expect(object_id)
        self._inbox.put(ev.Wanted(object_id, nodes, priority, size_bytes))

    def cancel(self, object_id: bytes) -> None:
        """Nobody here waits for it any more. There may be one more event of it."""
        self._landings.expect_no_more(object_id)
        self._inbox.put(ev.Unwanted(object_id))

    def node_died(self, index: int) -> None:
        """A node is gone for good."""
        self._inbox.put(ev.NodeDied(index))

    def room_is(self, free_bytes: int) -> None:
        """The store can take so much more.

        Said now and then it saves attempts that the store would refuse.
        """
        self._inbox.put(ev.RoomIs(free_bytes))

    def close(self) -> None:
        """End all transfers and threads. Objects that were still coming are given up."""
        self._inbox.put(None)
        self._thread.join()
        self._sender.close()
        self._landings.close()
        self._fetcher.close()
        self._workers.shutdown()
        self._creators.shutdown()
        self._landings.close()
        if self._data_server is not None:
            self._data_server.close()
        self._server.close()
        os.close(self._wake)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            now_s = self._clock()
            deadline_s = self._pulls.deadline_s()
            timeout_s = None if deadline_s is None else max(0.0, deadline_s - now_s)
            if self._attempts:
                timeout_s = LOOK_S if timeout_s is None else min(timeout_s, LOOK_S)
            try:
                event = self._inbox.get(timeout=timeout_s)
            except queue.Empty:
                event = ev.Tick()
            if event is None:
                break
            self._look_at_attempts()
            if isinstance(event, ev.NodeDied):
                self._sender.node_died(event.node)
            elif isinstance(event, ev.AttemptEnded):
                self._attempts.pop(event.attempt, None)
                if event.end is End.DIFFERENT and (landing := self._landings.get(event.object_id)):
                    landing.restart()
            for instruction in self._pulls.handle(event, self._clock()):
                self._perform(instruction)
            if isinstance(event, ev.NodeDied):
                self._fetcher.node_died(event.node)
                self._addresses.pop(event.node, None)
        for attempt in self._attempts.values():
            attempt.stop()

    def _look_at_attempts(self) -> None:
        horizon_s = self._clock() - STALL_TIMEOUT_S
        for attempt in self._attempts.values():
            if attempt.moved_at_s < horizon_s and not attempt.stopped:
                attempt.stop()

    def _perform(self, instruction: ev.Instruction) -> None:
        if isinstance(instruction, ev.Stream | ev.Ask):
            from orchestrator.transfer.fetching import Attempt

            attempt = self._attempts[instruction.attempt] = Attempt(self._clock())
            self._workers.submit(self._attempt, instruction, attempt)
        elif isinstance(instruction, ev.CreateBuffer):
            self._creators.submit(self._create, instruction)
        elif isinstance(instruction, ev.StopAttempt):
            if found := self._attempts.get(instruction.attempt):
                found.stop()
        elif isinstance(instruction, ev.DropBuffer):
            self._landings.remove(instruction.object_id)
        elif isinstance(instruction, ev.Seal):
            self._inbox.put(self._seal(instruction.object_id))
        elif isinstance(instruction, ev.Complain):
            self.complaints.append(instruction.text)
        else:
            self._landings.expect_no_more(instruction.object_id)
            self._outbox.append(instruction)
            os.eventfd_write(self._wake, 1)

    def _seal(self, object_id: bytes) -> ev.Event:
        landing = self._landings.get(object_id)
        assert landing is not None
        try:
            landing.seal()
        except Exception as error:
            return ev.SealRefused(object_id, str(error))
        finally:
            self._landings.remove(object_id)
        return ev.Sealed(object_id)

    # ------------------------------------------------------------ other threads

    def _create(self, instruction: ev.CreateBuffer) -> None:
        object_id = instruction.object_id
        try:
            allocation = self._store.create(object_id, instruction.size_bytes)
            self._landings.add(Landing(object_id, allocation))
        except Refused as refused:
            self._inbox.put(ev.BufferRefused(object_id, refused.refusal, refused.why))
        except Exception as error:
            self._inbox.put(ev.BufferRefused(object_id, Refusal.NEVER, repr(error)))
        else:
            self._inbox.put(ev.BufferMade(object_id))

    def _attempt(self, instruction: ev.Ask | ev.Stream, attempt: Attempt) -> None:
        from orchestrator.transfer.fetching import Outcome

        object_id = instruction.object_id
        landing = self._landings.get(object_id)
        try:
            address = self._addresses[instruction.source]
            if attempt.stopped:
                outcome = Outcome(End.BROKEN, None, "it was stopped")
            elif isinstance(instruction, ev.Ask):
                outcome = self._fetcher.ask(address, object_id)
            else:
                assert landing is not None
                outcome = self._fetcher.fetch(address, landing, attempt)
        except Exception as error:
            outcome = Outcome(End.BROKEN, None, repr(error))
        received = 0 if landing is None else landing.received_bytes
        self._inbox.put(
            ev.AttemptEnded(
                object_id, instruction.attempt, outcome.end, received, outcome.size_bytes, outcome.why
            )
        )
