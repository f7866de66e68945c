"""Runtime environments that were described on another node, brought here when a worker first needs one.

An environment is known by its key, and described in the directory of the session of the node where it was
asked for first. Whoever asks this node for workers has it there, or got it from somebody; so this node asks
back, and when that node is gone or does not have it, the others:

    (none) ──prepare──▶ ASKING ──description──▶ FETCHING ──all that it names is here──▶ (here)
                          │  ▲                     │
                          │  └── refusal, death ───┤ the next node is asked
                          └── no node is left ─────┴──▶ failed: RuntimeEnvSetupError, with the reasons

What it names is fetched one thing after the other and piece by piece, each piece when the last has arrived:
little of it is in memory at any time, and other messages pass between. A name stands for its content, so what
is here is not fetched again, whichever environment names it. Directories are packed and unpacked by threads
of their own; the loop has others to serve.
"""

from __future__ import annotations

import base64
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.environments import resolved as environments
from orchestrator.environments import shipping

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: A piece of a file in one message; a frame has at most 1 MiB, and this becomes a third longer in it.
PIECE_BYTES = 384 << 10
#: A description in one message.
DESCRIPTION_BYTES_MAX = 512 << 10
#: Environments that are fetched at one time; the others wait.
FETCHES_MAX = 4
#: Environments of which it is known who has asked for them.
HEARD_MAX = 10_000
#: Packed directories that are kept for the next piece, and for how long after the last one.
PACKED_MAX, PACKED_KEPT_S = 16, 30.0


class _Fetch:
    def __init__(self, env: str, sources: list[int], done: Callable[[str], None]) -> None:
        self.env = env
        #: Nodes that have not been asked.
        self.sources = sources
        self.done = done
        #: Who is asked.
        self.source = 0
        self.refusals: list[str] = []
        self.resolved: environments.Resolved = {}
        #: What has still to be fetched; the first is under way.
        self.missing: list[str] = []
        self.fd = -1
        self.path = ""
        self.offset = 0

    def drop_file(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            os.unlink(self.path)
        self.fd, self.offset = -1, 0


class _Packed:
    def __init__(self) -> None:
        #: -1 while it is being packed.
        self.fd = -1
        self.size = 0
        self.used_s = 0.0
        #: Who waits for it: (node, message).
        self.waiting: list[tuple[int, dict[str, Any]]] = []


class EnvironmentsAbroad:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._session_dir = node.session_dir
        self._node = node
        #: Who has asked for workers in which environment.
        self._heard: dict[str, int] = {}
        self._fetches: dict[str, _Fetch] = {}
        self._queue: deque[_Fetch] = deque()
        self._packed: dict[str, _Packed] = {}
        #: Indices are never used again.
        self._dead: set[int] = set()

    # ------------------------------------------------------------ what this node needs

    def heard(self, env: str, node: int) -> None:
        """A node has asked for workers in an environment."""
        if env and node != self._member.here and env not in self._heard:
            self._heard[env] = node
            if len(self._heard) > HEARD_MAX:
                del self._heard[next(iter(self._heard))]

    def fetch(self, env: str, done: Callable[[str], None]) -> None:
        """Have the description of an environment here; `done` gets "", or why that can't be ("it ...")."""
        if not env.isalnum() or os.path.exists(environments.path_of(env, self._session_dir)):
            done("")
            return
        first = self._heard.get(env)
        others = sorted(peer for peer in self._member.peers if peer != first)
        # Who has asked may not be in our view yet.
        sources = [*([] if first is None else [first]), *others]
        self._queue.append(_Fetch(env, sources, done))
        self._begin()

    def _begin(self) -> None:
        while self._queue and len(self._fetches) < FETCHES_MAX:
            fetch = self._queue.popleft()
            self._fetches[fetch.env] = fetch
            self._ask_next(fetch)

    def _ask_next(self, fetch: _Fetch, refusal: str = "") -> None:
        fetch.drop_file()
        if refusal:
            fetch.refusals.append(f"node {fetch.source}: {refusal}")
        fetch.sources = [node for node in fetch.sources if node not in self._dead]
        if not fetch.sources:
            said = "; ".join(fetch.refusals)[:2000] or "there is none"
            self._settle(fetch, f"it needs the runtime environment {fetch.env}, and no node has it ({said})")
            return
        fetch.source = fetch.sources.pop(0)
        self._member.tell(fetch.source, {"op": "environment_wanted", "env": fetch.env})

    def _settle(self, fetch: _Fetch, why: str) -> None:
        del self._fetches[fetch.env]
        fetch.done(why)
        self._begin()

    def node_died(self, index: int) -> None:
        """A node is gone: what it was to send is asked of another."""
        self._dead.add(index)
        for fetch in list(self._fetches.values()):
            if fetch.source == index:
                self._ask_next(fetch, "it died")

    def _on_described(self, fetch: _Fetch, message: dict[str, Any]) -> None:
        if message["error"]:
            self._ask_next(fetch, str(message["error"])[:500])
            return
        try:
            fetch.resolved, fetch.missing = shipping.localized(message["resolved"], self._session_dir)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._ask_next(fetch, f"what it says makes no sense: {error!r}")
            return
        self._fetch_next(fetch)

    def _fetch_next(self, fetch: _Fetch) -> None:
        while fetch.missing and os.path.exists(shipping.place_of(fetch.missing[0], self._session_dir)):
            del fetch.missing[0]  # another environment has brought it meanwhile
        fetch.drop_file()
        try:
            if not fetch.missing:
                environments.publish_as(fetch.env, fetch.resolved, self._session_dir)
                self._settle(fetch, "")
                return
            root = environments.directory_of(self._session_dir)
            os.makedirs(root, 0o700, exist_ok=True)
            fetch.fd, fetch.path = tempfile.mkstemp(prefix="arriving-", dir=root)
        except OSError as error:
            self._fail(fetch, error)
            return
        self._want_piece(fetch)

    def _want_piece(self, fetch: _Fetch) -> None:
        wanted = {"op": "piece_wanted", "env": fetch.env, "name": fetch.missing[0], "offset": fetch.offset}
        self._member.tell(fetch.source, wanted)

    def _on_piece(self, fetch: _Fetch, message: dict[str, Any]) -> None:
        if fetch.fd < 0 or message["name"] != fetch.missing[0] or message["offset"] != fetch.offset:
            return
        size, data = message["size"], base64.b64decode(message["data"])
        if message["error"] or size > shipping.SHIPPED_BYTES_MAX or (not data and fetch.offset < size):
            self._ask_next(fetch, str(message["error"])[:500] or f"{message['name']} has {size} bytes")
            return
        try:
            if os.write(fetch.fd, data) < len(data):
                raise OSError(f"no room for {message['name']}")
        except OSError as error:
            self._fail(fetch, error)
            return
        fetch.offset += len(data)
        if fetch.offset < size:
            self._want_piece(fetch)
            return
        os.close(fetch.fd)
        fetch.fd, fetch.offset = -1, 0
        name, path = fetch.missing[0], fetch.path
        self._in_thread(
            lambda: shipping.unpack(path, name, self._session_dir),
            lambda _, error: self._unpacked(fetch, error),
        )

    def _unpacked(self, fetch: _Fetch, error: Exception | None) -> None:
        if self._fetches.get(fetch.env) is not fetch or fetch.fd >= 0:
            return  # its source died meanwhile, and it was begun again
        if error is not None:
            self._fail(fetch, error)
        else:
            self._fetch_next(fetch)

    def _fail(self, fetch: _Fetch, error: Exception) -> None:
        fetch.drop_file()
        self._settle(fetch, f"it needs a runtime environment that could not be brought here: {error}")

    # ------------------------------------------------------------ what others need

    def _on_wanted(self, node: int, env: str) -> None:
        answer: dict[str, Any] = {"op": "environment", "env": env, "resolved": {}, "error": ""}
        try:
            path = environments.path_of(env, self._session_dir)
            if env.isalnum() and os.path.exists(path) and os.path.getsize(path) > DESCRIPTION_BYTES_MAX:
                answer["error"] = f"its description is longer than {DESCRIPTION_BYTES_MAX >> 10} KiB"
            else:
                answer["resolved"] = environments.load(env, self._session_dir)
        except (OSError, ValueError) as error:
            answer["error"] = f"it is not described there: {error}"
        self._member.tell(node, answer)

    def _on_piece_wanted(self, node: int, message: dict[str, Any]) -> None:
        name = message["name"]
        packed = self._packed.get(name)
        if packed is not None:
            if packed.fd < 0:
                packed.waiting.append((node, message))
            else:
                self._send_piece(node, message, packed)
            return
        try:
            path = shipping.named_in(environments.load(message["env"], self._session_dir))[name]
        except (OSError, ValueError, KeyError) as error:
            self._send_piece(node, message, None, f"it does not have {name!r:.100}: {error!r}")
            return
        packed = self._packed[name] = _Packed()
        packed.waiting.append((node, message))
        self._in_thread(lambda: shipping.pack(path), lambda fd, error: self._on_packed(name, fd, error))

    def _on_packed(self, name: str, fd: int | None, error: Exception | None) -> None:
        packed = self._packed.get(name)
        if packed is None:  # closed meanwhile
            if fd is not None:
                os.close(fd)
            return
        waiting, packed.waiting = packed.waiting, []
        if fd is None:
            del self._packed[name]
            for node, message in waiting:
                self._send_piece(node, message, None, f"{name} could not be read: {error}")
            return
        packed.fd, packed.size = fd, os.fstat(fd).st_size
        for node, message in waiting:
            self._send_piece(node, message, packed)
        self._drop_packed(time.monotonic())

    def _send_piece(
        self, node: int, message: dict[str, Any], packed: _Packed | None, error: str = ""
    ) -> None:
        data, size = b"", 0
        if packed is not None:
            packed.used_s = time.monotonic()
            data, size = os.pread(packed.fd, PIECE_BYTES, max(message["offset"], 0)), packed.size
        answer = {"op": "piece", "env": message["env"], "name": message["name"], "offset": message["offset"]}
        answer |= {"size": size, "data": base64.b64encode(data).decode(), "error": error}
        self._member.tell(node, answer)

    def _drop_packed(self, now_s: float) -> None:
        ready = sorted((one.used_s, name) for name, one in self._packed.items() if one.fd >= 0)
        for place, (used_s, name) in enumerate(ready):
            if now_s - used_s >= PACKED_KEPT_S or len(ready) - place > PACKED_MAX:
                os.close(self._packed.pop(name).fd)

    # ------------------------------------------------------------ messages, threads, time

    def on_news(self, node: int, message: dict[str, Any]) -> bool:
        """Handle what another node says about environments; False if it is about something else."""
        match message.get("op"):
            case "environment_wanted":
                self._on_wanted(node, message["env"])
            case "piece_wanted":
                self._on_piece_wanted(node, message)
            case "environment" | "piece" as op:
                fetch = self._fetches.get(message["env"])
                if fetch is not None and fetch.source == node:
                    (self._on_described if op == "environment" else self._on_piece)(fetch, message)
            case _:
                return False
        return True

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        def run() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:
                failure = error
            self._member.head.post(lambda: then(result, failure))

        threading.Thread(target=run, name="packing", daemon=True).start()

    def close(self) -> None:
        """Let go of everything: the node leaves."""
        for fetch in self._fetches.values():
            fetch.drop_file()
        for packed in self._packed.values():
            if packed.fd >= 0:
                os.close(packed.fd)
        self._fetches.clear()
        self._packed.clear()

    def tick(self, now_s: float) -> float:
        """Let go of what nobody fetches any more; return the seconds until this is due again."""
        self._drop_packed(now_s)
        return PACKED_KEPT_S
