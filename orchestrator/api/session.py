"""Sessions: `init`, `shutdown`, and who takes part."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.api import bars, init_options, preloading
from orchestrator.api.driver_facts import environment_of_session, import_path, main_path
from orchestrator.common import environ
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import random_hex
from orchestrator.common.labels import check_labels
from orchestrator.common.resources import CPU, ResourceSet
from orchestrator.core.current import current, install, require
from orchestrator.core.messages import PROGRESS

if TYPE_CHECKING:
    from orchestrator.api.worker_logs import WorkerLogs
    from orchestrator.common.logging_config import LoggingConfig
    from orchestrator.core.runtime import Runtime

#: Time for a node process to end its workers in good order.
STOP_TIMEOUT_S = 3.0
#: Time for the shutdown hooks of actors.
HOOKS_TIMEOUT_S = 5.0
#: Time for a thread that reads messages to notice that the session ends.
LEAD_TIMEOUT_S = 0.5


class Session(Mapping[str, Any]):
    """What `init` returns: facts about the session, as a mapping and as attributes. Leaving its context
    ends it."""

    #: Where a dashboard can be seen: there is none.
    dashboard_url: str | None = None

    def __init__(
        self, runtime: Runtime, node: Any = None, store: Any = None, logs: WorkerLogs | None = None
    ) -> None:
        self._runtime = runtime
        #: What only the process has that started the session.
        self._node = node
        self._store = store
        self._logs = logs
        self._root_handler: Any = None
        self._pid = os.getpid()
        self.namespace: str = runtime.info["namespace"]
        self.session_dir: str = runtime.info["session_dir"]
        self.node_pid: int | None = None if node is None else node.pid
        #: The facts of the mapping, under Ray's names where those mean something here.
        self.address_info: dict[str, Any] = {
            "address": runtime.info.get("address", "local"),
            "node_id": runtime.node_id,
            "node_ip_address": "127.0.0.1",
            "session_name": runtime.session,
            "session_dir": self.session_dir,
            "namespace": self.namespace,
            "object_store_address": None,
            "gcs_address": None,
            "webui_url": None,
            "node_pid": self.node_pid,
            "job_id": runtime.info.get("job", runtime.session),
        }
        self.python_version = ".".join(map(str, sys.version_info[:3]))

    def __getitem__(self, name: str) -> Any:
        return self.address_info[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """End the session, if it is the one that is open."""
        if _sessions.session is self:
            shutdown()

    def __repr__(self) -> str:
        state = "open" if self._runtime.open else "over"
        return f"<orchestrator session, node pid {self.node_pid}, {state}>"

    def _repr_html_(self) -> str:
        """Show the session in a notebook."""
        import html

        rows = {"session": repr(self), "directory": self.session_dir, "namespace": self.namespace}
        cells = [f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows.items()]
        return f"<table>{''.join(cells)}</table>"

    def _end(self) -> None:
        if os.getpid() != self._pid:
            return
        try:
            self._end_actors()
        finally:
            self._end_processes()

    def _end_actors(self) -> None:
        """Let actors that have a shutdown hook end in good order, for a while."""
        runtime = self._runtime
        deadline = monotonic() + HOOKS_TIMEOUT_S
        try:
            while self._node.alive() and (left_s := deadline - monotonic()) > 0:
                if not runtime.node.ask({"op": "end_actors"}, timeout_s=left_s)["count"]:
                    break
                time.sleep(0.002)
        except exceptions.OrchestratorError:
            pass  # the node is gone, or does not answer: it will be killed

    def _end_processes(self) -> None:
        self._close_runtime("this session is over: shutdown() was called", self._node.stop)

    def _close_runtime(self, reason: str, stop_node: Callable[[float], None] | None = None) -> None:
        runtime = self._runtime
        runtime.lose(exceptions.SessionError(reason))
        runtime.open = False
        runtime.on_tick = None
        if stop_node is not None:
            stop_node(STOP_TIMEOUT_S)
        self._print_last_lines()
        if self._root_handler is not None:
            from orchestrator.core import log_records

            log_records.unconfigure_root(self._root_handler)
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
        if self._logs is not None:
            self._logs.close()


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
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: int | str = "INFO",
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    mode: str | None = None,
    **hidden: Any,
) -> Session:
    """Start a private session on this machine, or attach to one that stands there.

    Of a private one nothing is left when this process ends, however it ends. One that was attached to goes
    on; what ends with this process is what it has begun there: tasks, actors and placement groups that are
    not detached, references.

    Keywords that are not described here are accepted for the sake of programs written for Ray;
    `orchestrator/api/init_options.py` says which have no effect, which are refused, and why.

    Args:
        address: None or "local" for a session of this process's own. "auto" for the one that stands on this
            machine (`orchestrator start --head`); or the directory of one. Unless given it is what the
            environment variable `ORCHESTRATOR_ADDRESS` says.
        num_cpus: CPUs to give to tasks; the number this process may run on, unless given.
        num_gpus: GPUs to give to tasks.
        resources: further resources by name.
        labels: labels of the node, for scheduling by label.
        object_store_memory: size of the object store in bytes, 30 % of the machine's memory unless given;
            memory is taken only as it is used. What it has no room for goes to disk.
        ignore_reinit_error: return the running session instead of raising.
        configure_logging: have this package's own messages written to stderr; False leaves the logger
            `orchestrator` to the program.
        logging_level: from which level on they are shown.
        logging_format: what they look like, as for `logging.Formatter`.
        logging_config: how the root loggers of the driver and of all workers write.
        log_to_driver: show what workers print; yes unless given, or unless `ORCHESTRATOR_LOG_TO_DRIVER=0`.
        namespace: where named actors are looked up; one of the session's own, unless given or set by
            `ORCHESTRATOR_NAMESPACE`.
        runtime_env: the environment of all tasks and actors, a dict or a `RuntimeEnv`.
        mode: "processes", or "inline": tasks and actors run in this process, in program order, for
            debugging. Unless given it is what the environment variable `ORCHESTRATOR_MODE` says.
        _temp_dir: the directory in which the session's own is made.
        object_spilling_directory: where objects go that the store has no room for; the session's own
            directory unless given, or `/tmp` or `/var/tmp` where that is in memory.

    Raises:
        RuntimeError: a session is running in this process.
        TypeError: an unknown keyword, or a value of the wrong type.
        ValueError: a quantity is negative, the store too small, a keyword asks for what is not here, or is
            about a session's start and there is an address.
        ConnectionError: there is no session at the address, or it did not answer within 5 s.
        NodeDiedError: the node process did not start.
    """
    given = dict(locals())
    given |= given.pop("hidden")
    with _sessions.lock:
        init_options.check(given)
        where, asked = init_options.resolve_address(address)
        session = _sessions.session
        if session is not None and current() is not None:
            if ignore_reinit_error:
                return session
            raise exceptions.SessionError(
                "init() was called before in this process: shutdown() first, or pass ignore_reinit_error=True"
            )
        runtime = current()
        if runtime is not None:
            if ignore_reinit_error:
                return Session(runtime)
            raise exceptions.SessionError(
                "this process is a worker of a session already: leave init() out, or pass "
                "ignore_reinit_error=True"
            )
        common: dict[str, Any] = {
            "info": {
                "namespace": namespace or environ.setting("NAMESPACE"),
                "labels": check_labels(labels or {}, "init(labels=...)"),
                "logging": {
                    "configure": configure_logging,
                    "level": logging_level,
                    "format": logging_format,
                    "config": logging_config.to_json() if logging_config is not None else None,
                },
            },
            "runtime_env": runtime_env,
            "shows_logs": environ.flag("LOG_TO_DRIVER", True) if log_to_driver is None else log_to_driver,
        }
        if where is not None:
            init_options.check_attaching(given, asked)
            from orchestrator.api.attached import attach

            _sessions.session = attach(where, **common)
            return _sessions.session
        quantities = dict(resources or {})
        quantities[CPU] = float(num_cpus if num_cpus is not None else len(os.sched_getaffinity(0)))
        if num_gpus is not None:
            quantities["GPU"] = num_gpus
        ResourceSet.from_floats(quantities)
        mode = mode or environ.setting("MODE") or "processes"
        if mode not in _STARTS:
            raise ValueError(f"mode must be one of {', '.join(map(repr, _STARTS))}, not {mode!r}")
        session = _STARTS[mode](
            quantities,
            object_store_memory,
            root=hidden.get("_temp_dir"),
            spill_root=hidden.get("object_spilling_directory"),
            **common,
        )
        _sessions.session = session
        return session


def _start(
    quantities: dict[str, float],
    store_bytes: int | None,
    *,
    root: str | None,
    spill_root: str | None,
    info: dict[str, Any],
    runtime_env: Mapping[str, Any] | None,
    shows_logs: bool,
) -> Session:
    from orchestrator.node import launch

    if root is not None:
        os.makedirs(root, exist_ok=True)
    path = launch.directories.new_session_path(root)
    spill_path = launch.spill_dir.choose_path(path, spill_root)
    node = launch.spawn(path)  # before anything else is imported: its interpreter takes a while
    store = None
    try:
        from orchestrator.objects.plasma_adapter import Store

        store = Store.create(store_bytes, name="driver", spill_directory=spill_path)
        name = random_hex()
        info = {
            **info,
            "session": name,
            "session_dir": path,
            "driver_address": store.address,
            "driver_sys_path": import_path(),
            "driver_cwd": os.getcwd(),
            "num_cpus": quantities[CPU],
            "main_path": main_path(),
            "namespace": info["namespace"] or name,
        }
        node.serve(store, resources=quantities, info=info)
        launch.spill_dir.link(path, spill_path)
        preloading.import_what_is_needed_soon()  # the node has a core of its own to start on
        from orchestrator.api.worker_logs import WorkerLogs
        from orchestrator.core.runtime import Runtime

        logs = WorkerLogs(monotonic) if shows_logs else None
        if runtime_env:
            info["environment"] = environment_of_session(runtime_env, info)
        node.wait_hello()
        runtime = Runtime(store, name, node.address, info)
    except BaseException:
        node.kill()
        if store is not None:
            store.close()
        raise
    if runtime.environment.key:
        runtime.node.send({"op": "pool", "env": runtime.environment.key})
    return open_session(Session, runtime, node, store, logs)


def open_session(
    kind: type[Session], runtime: Runtime, node: Any, store: Any, logs: WorkerLogs | None
) -> Session:
    """Make this the process's session, which has a node process."""
    ticks = [_node_watch(runtime, node)]
    if logs is not None:
        runtime.handlers["log"] = logs.show
        ticks.append(logs.tick)
    runtime.handlers[PROGRESS] = bars.on_progress

    def tick(now: float) -> None:
        for one in ticks:
            one(now)

    runtime.on_tick = tick
    install(runtime)
    session = kind(runtime, node, store, logs)
    config = runtime.info["logging"]["config"]
    if config is not None:
        from orchestrator.core import log_records

        session._root_handler = log_records.configure_root(config, runtime)
    runtime.pump.start()
    return session


def _start_inline(
    quantities: dict[str, float], store_bytes: int | None, *, info: dict[str, Any], **of_processes: Any
) -> Session:
    """Start a session that is this process; what only processes need is left aside."""
    from orchestrator.inline.runtime import InlineRuntime

    name = random_hex()
    info = {**info, "session": name, "session_dir": "", "namespace": info["namespace"] or name}
    runtime = InlineRuntime(name, info, quantities, store_bytes)
    install(runtime)
    session = Session(runtime, runtime.node, runtime.store)
    if info["logging"]["config"] is not None:
        from orchestrator.core import log_records

        session._root_handler = log_records.configure_root(info["logging"]["config"], runtime)
    return session


#: What begins a session, by its mode.
_STARTS: dict[str, Callable[..., Session]] = {"processes": _start, "inline": _start_inline}


def _node_watch(runtime: Runtime, node: Any) -> Callable[[float], None]:
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


def ensure_runtime() -> Runtime:
    """Return the runtime; start a session with defaults when there is none.

    Raises:
        SessionError: there is none, and `ORCHESTRATOR_ENABLE_AUTO_CONNECT=0` forbids to start one here.
    """
    runtime = current()
    if runtime is None:
        with _sessions.lock:
            if current() is None:
                if not environ.flag("ENABLE_AUTO_CONNECT", True):
                    raise exceptions.SessionError(
                        "there is no session in this process, and ORCHESTRATOR_ENABLE_AUTO_CONNECT=0: "
                        "call init() first"
                    )
                init()
            runtime = require()
    return runtime


def is_initialized() -> bool:
    """Tell whether this process takes part in a session."""
    return current() is not None


def shutdown(*, wait_for_processes: bool = True) -> None:
    """End the session with its tasks, actors, objects and processes. Harmless when there is none.

    Args:
        wait_for_processes: accepted for the sake of programs that pass it: whatever it is, this returns when
            the processes of the session are gone.
    """
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
