"""Sessions: `init`, `shutdown`, and who takes part."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common.ids import random_hex
from orchestrator.common.resources import CPU, ResourceSet
from orchestrator.core.current import current, install, require

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

#: Time for a node process to end its workers in good order.
STOP_TIMEOUT_S = 3.0
#: Time for a thread that reads messages to notice that the session ends.
LEAD_TIMEOUT_S = 0.5


class Session:
    """What `init` returns: facts about the session, and a context manager that ends it."""

    def __init__(self, runtime: Runtime, node: Any, store: Any) -> None:
        self._runtime = runtime
        self._node = node
        self._store = store
        self._pid = os.getpid()
        self.namespace: str = runtime.info["namespace"]
        self.session_dir: str = runtime.info["session_dir"]
        self.node_pid: int = node.pid

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutdown()

    def __repr__(self) -> str:
        state = "open" if self._runtime.open else "over"
        return f"<orchestrator session, node pid {self.node_pid}, {state}>"

    def _end(self) -> None:
        runtime = self._runtime
        if os.getpid() != self._pid:
            return
        runtime.lose(exceptions.SessionError("this session is over: shutdown() was called"))
        runtime.open = False
        runtime.on_tick = None
        self._node.stop(STOP_TIMEOUT_S)
        self._print_last_lines()
        runtime.close()
        self._store.close()
        self._store = None

    def _print_last_lines(self) -> None:
        """Show what workers printed until the end; nothing else that still arrives matters."""
        runtime = self._runtime
        show = runtime.handlers.get("log")
        if show is None:
            return
        # Whoever reads leaves at once; unless it is this very thread, in a handler of signals.
        lock = runtime.pump.lock
        leads = lock.acquire(timeout=LEAD_TIMEOUT_S)
        try:
            while (item := runtime.endpoint.receive(0)) is not None:
                if item[1][:1] == b"{":
                    message = json.loads(item[1])
                    if message.get("op") == "log":
                        show(message)
        finally:
            if leads:
                lock.release()


class _Sessions:
    """The process's session and the lock that makes starting and ending one thing at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.session: Session | None = None


_sessions = _Sessions()


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
) -> Session:
    """Start a private session on this machine. Nothing of it is left when this process ends, however it ends.

    Args:
        address: None or "local"; both mean a session of this process's own.
        num_cpus: CPUs to give to tasks; the number this process may run on, unless given.
        num_gpus: GPUs to give to tasks.
        resources: further resources by name.
        object_store_memory: size of the object store in bytes, 30 % of the machine's memory unless given;
            memory is taken only as it is used.
        namespace: where named actors are looked up.
        ignore_reinit_error: return the running session instead of raising.
        log_to_driver: show what workers print.

    Raises:
        RuntimeError: a session is running in this process.
        ValueError: a quantity is negative, the store too small, or the address another one.
        NodeDiedError: the node process did not start.
    """
    with _sessions.lock:
        session = _sessions.session
        if session is not None and current() is not None:
            if ignore_reinit_error:
                return session
            raise exceptions.SessionError(
                "init() was called before in this process: shutdown() first, or pass ignore_reinit_error=True"
            )
        if current() is not None:
            raise exceptions.SessionError("this process is a worker of a session already")
        if address not in (None, "local"):
            raise ValueError(f"address must be None or 'local': joining {address!r} is not possible")
        quantities = dict(resources or {})
        quantities[CPU] = float(num_cpus if num_cpus is not None else len(os.sched_getaffinity(0)))
        if num_gpus:
            quantities["GPU"] = num_gpus
        ResourceSet.from_floats(quantities)
        session = _start(quantities, object_store_memory, namespace, log_to_driver)
        _sessions.session = session
        return session


def _start(
    quantities: dict[str, float], store_bytes: int | None, namespace: str | None, log_to_driver: bool
) -> Session:
    from orchestrator.node import launch
    from orchestrator.objects.plasma_adapter import Store

    store = Store.create(store_bytes, name="driver")
    try:
        name = random_hex()
        path = launch.directories.new_session_path()
        info = {
            "session": name,
            "session_dir": path,
            "driver_address": store.address,
            "driver_sys_path": _import_path(),
            "driver_cwd": os.getcwd(),
            "num_cpus": quantities[CPU],
            "main_path": getattr(sys.modules.get("__main__"), "__file__", None),
            "namespace": namespace or name,
        }
        node = launch.start_node(store, resources=quantities, session_dir=path, info=info)
        try:
            # Imported while the node starts: it has a core of its own to do so on.
            from orchestrator.api import getting, remote  # noqa: F401
            from orchestrator.core.runtime import Runtime

            node.wait_hello()
            runtime = Runtime(store, name, node.address, info)
        except BaseException:
            node.kill()
            raise
    except BaseException:
        store.close()
        raise
    if log_to_driver:
        runtime.handlers["log"] = _print_log
    runtime.on_tick = _node_watch(runtime, node)
    install(runtime)
    runtime.pump.start()
    return Session(runtime, node, store)


def _import_path() -> list[str]:
    """Return where the driver imports from; an empty entry is the current directory."""
    return [os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path]


def _node_watch(runtime: Runtime, node: Any) -> Any:
    """Return what the pump calls now and then to see that the node process lives."""
    next_look_s = 0.0

    def look(now: float) -> None:
        nonlocal next_look_s
        if now < next_look_s or not runtime.open:
            return
        next_look_s = now + 0.25
        if not node.alive():
            runtime.lose(
                exceptions.NodeDiedError(
                    f"the node process (pid {node.pid}) died; shutdown() and init() again"
                )
            )

    return look


def _print_log(message: dict[str, Any]) -> None:
    stream = sys.stderr if message.get("stream") == "stderr" else sys.stdout
    prefix = f"({message.get('label') or 'worker'} pid={message['pid']}) "
    lines = "".join(
        # A line that is JSON stays one: it is for a machine to read.
        (line if line.startswith("{") else prefix + line) + "\n"
        for line in message["lines"]
    )
    try:
        stream.write(lines)
        stream.flush()
    except (OSError, ValueError):
        pass


def ensure_runtime() -> Runtime:
    """Return the runtime; start a session with defaults when there is none."""
    runtime = current()
    if runtime is None:
        with _sessions.lock:
            if current() is None:
                init()
            runtime = require()
    return runtime


def is_initialized() -> bool:
    """Tell whether this process takes part in a session."""
    return current() is not None


def shutdown() -> None:
    """End the session with its tasks, actors, objects and processes. Harmless when there is none."""
    with _sessions.lock:
        session, _sessions.session = _sessions.session, None
        if session is not None:
            session._end()


def _forget_session() -> None:
    """In a forked child: the session is the parent's."""
    runtime = current()
    if runtime is not None:
        runtime.open = False
        runtime.pump.lock = threading.Lock()
        install(None)
    _sessions.lock = threading.RLock()
    _sessions.session = None


atexit.register(shutdown)
os.register_at_fork(after_in_child=_forget_session)
