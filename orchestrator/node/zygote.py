"""The zygote: a process that has imported everything, and forks workers from it.

It has one thread, and is no client of the store: a fork then copies nothing but page tables, and the workers
share its memory. It speaks with the node over a `SOCK_SEQPACKET` pair, one JSON object per packet:

- from the node `{"token", "node", "env", "job"}`: fork a worker. `node` is the node's address in the store,
  `env` the key of its runtime environment, `job` the job it works for: "" in a session that has only one,
  else a file in the session's directory has that job's facts. With it come the writing ends of the worker's
  stdout and stderr.
- to the node `{"op": "forked", "token", "pid"}`, with a pidfd where the kernel has such;
- `{"op": "not_forked", "token", "error"}`;
- `{"op": "exited", "pid", "status", "rss_max_bytes"}`, once the process has been reaped.

Every worker leads a process group of its own. When it ends, the rest of its group is killed before its pid
is free to be used again, so that what a task has started goes with it. (A process that made a session of its
own stays; the node ends it with the session.)
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from orchestrator.common.accelerators import KEEP_VARIABLE, VISIBLE_VARIABLES
from orchestrator.node import system
from orchestrator.node.session_dir import JOBS

#: Read by BLAS and OpenMP libraries when they are loaded. Workers run side by side, one task each on a CPU:
#: with as many threads as the machine has cores in each of them, they would fight. And a zygote must have
#: one thread. (`core.threads` changes the number where a task has more CPUs.)
_THREADS_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

#: What a worker runs, as "module:function"; `info["worker_entry"]` may name another. It is called with the
#: store's descriptor, the node's address, the worker's token, and `info`.
_ENTRY = "orchestrator.core.worker:run_worker"

Entry = Callable[[int, int, int, dict[str, Any]], None]

#: What the code of many tasks uses, and what is slow to import. The first worker is forked without it, so
#: that the first task need not wait for it; what that worker does need of it, it imports itself.
_SECOND_IMPORTS = (
    "numpy",
    "orchestrator.api.actor_class",
    "orchestrator.api.actor_handle",
    "orchestrator.api.context",
    "orchestrator.api.getting",
    "orchestrator.api.object_ref",
    "orchestrator.api.remote",
    "orchestrator.api.waiting",
)
#: How long the first request is waited for, before these get in its way. A node that starts makes one at
#: once, if anybody waits for it.
_FIRST_REQUEST_MS = 1000

#: Needed by some workers only, and slow to import: done when nobody has wanted a worker for a moment.
_LATER_IMPORTS = (
    "asyncio",
    "concurrent.futures.thread",
    "orchestrator.environments.applying",
    "orchestrator.core.async_calls",
    "orchestrator.core.ring_selector",
    "orchestrator.core.threaded_calls",
    "orchestrator.api.executor",
    "orchestrator.api.mapping",
    "orchestrator.api.progress",
    "orchestrator.api.task_group",
)
_LATER_MS = 300


def serve(link_fd: int, store_fd: int, node_pid: int, info: dict[str, Any]) -> NoReturn:
    """Import, then fork on request until the node is gone."""
    system.die_with_parent(node_pid)
    link = socket.socket(fileno=link_fd)
    try:
        _Zygote(link, store_fd, info).run()
    except BaseException:
        _print_traceback()
    finally:
        sys.stderr.flush()
        os._exit(1)


class _Zygote:
    def __init__(self, link: socket.socket, store_fd: int, info: dict[str, Any]) -> None:
        self._link = link
        self._store_fd = store_fd
        self._info = info
        self._pid = os.getpid()
        self._entry: Entry
        #: Becomes readable when a child has ended.
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        gc.disable()
        self._entry = _import_all(self._info)
        gc.freeze()
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        first = select.poll()
        first.register(self._link, select.POLLIN)
        if first.poll(_FIRST_REQUEST_MS) and not self._serve_request():
            return
        for name in _SECOND_IMPORTS:
            importlib.import_module(name)
        # What exists now will never be garbage: a collection in a worker must not touch, and so copy, these
        # pages.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        timeout_ms: int | None = _LATER_MS
        while True:
            ready = [fd for fd, _ in poll.poll(timeout_ms)]
            if not ready:
                timeout_ms = None
                for name in _LATER_IMPORTS:
                    importlib.import_module(name)
                gc.freeze()
            if self._wake_r in ready:
                self._reap()
            if self._link.fileno() in ready and not self._serve_request():
                return

    def _serve_request(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._link, 65536, 2)
        if not data:
            return False
        request = json.loads(data)
        token = request["token"]
        try:
            pid = os.fork()
        except OSError as exc:
            self._report({"op": "not_forked", "token": token, "error": str(exc)})
        else:
            if pid == 0:
                self._become_worker(token, request["node"], request["env"], request["job"], *fds)
            pidfd = system.open_pidfd(pid)
            self._report({"op": "forked", "token": token, "pid": pid}, [pidfd] if pidfd >= 0 else [])
            if pidfd >= 0:
                os.close(pidfd)
        for fd in fds:
            os.close(fd)
        return True

    def _report(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        socket.send_fds(self._link, [json.dumps(message).encode()], fds or [])

    def _reap(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            try:
                os.killpg(pid, signal.SIGKILL)  # still a zombie: nobody else can have this number
            except (ProcessLookupError, PermissionError):
                pass
            _, status, usage = os.wait4(pid, 0)
            self._report(
                {"op": "exited", "pid": pid, "status": status, "rss_max_bytes": usage.ru_maxrss * 1024}
            )

    def _become_worker(
        self, token: int, node_address: int, env: str, job: str, stdout_fd: int, stderr_fd: int
    ) -> NoReturn:
        try:
            os.setpgid(0, 0)
            system.die_with_parent(self._pid)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Cancelling a task interrupts it; a driver in the background may have handed down an ignored
            # SIGINT.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._link.close()
            for fd in (self._wake_r, self._wake_w):
                os.close(fd)
            for source, target in ((stdout_fd, 1), (stderr_fd, 2)):
                os.dup2(source, target)
                os.close(source)
            open_output()
            _reseed()
            gc.enable()
            info = self._info
            if job:
                info = _enter_job(job, info)
            if env:
                info = self._enter_environment(env, node_address, token, info)
        except BaseException:
            _print_traceback()
            _exit(1)
        run_entry(self._entry, self._store_fd, node_address, token, info)

    def _enter_environment(
        self, env: str, node_address: int, token: int, info: dict[str, Any]
    ) -> dict[str, Any]:
        """Be in a runtime environment: return the facts for this worker, or become another interpreter."""
        from orchestrator.environments import applying, resolved

        info = {**info, "environment": env}
        environment = resolved.load(env, info["session_dir"])
        command = resolved.command_of(environment, sys.executable)
        if command is not None:
            self._become_other_interpreter(command, environment, node_address, token, info)
        return applying.apply(environment, info)

    def _become_other_interpreter(
        self,
        command: list[str],
        environment: dict[str, Any],
        node_address: int,
        token: int,
        info: dict[str, Any],
    ) -> NoReturn:
        from orchestrator.node import fresh_worker

        fresh_worker.become(
            command,
            environment,
            entry=info.get("worker_entry", _ENTRY),
            store_fd=self._store_fd,
            node_address=node_address,
            token=token,
            info=info,
            roots=[path for path in sys.path if path],
        )


def open_output() -> None:
    """Give this process an stdout and an stderr of its own.

    Whole lines, at once: they are for somebody to read, and a killed worker can't flush. New objects, as
    those of the zygote may believe that their descriptors can seek, which a pipe cannot.
    """
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def run_entry(entry: Entry, store_fd: int, node_address: int, token: int, info: dict[str, Any]) -> NoReturn:
    """Run what a worker runs, and end this process."""
    try:
        entry(store_fd, node_address, token, info)
    except SystemExit as exc:
        _exit(exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1)
    except BaseException:
        _print_traceback()
        _exit(1)
    _exit(0)


def _print_traceback() -> None:
    import traceback  # rarely needed, and not cheap

    traceback.print_exc()


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def _enter_job(job: str, info: dict[str, Any]) -> dict[str, Any]:
    """Work for this job: return its facts beside the session's, and import from where its driver does."""
    with open(os.path.join(info["session_dir"], JOBS, job), encoding="utf-8") as file:
        info = {**info, **json.load(file)}
    path = info["driver_sys_path"]
    sys.path[:] = path + [entry for entry in sys.path if entry not in path]
    importlib.invalidate_caches()
    return info


def _ignore(number: int, frame: object) -> None:
    """Make the signal interrupt `poll` through the wake-up descriptor; a signal that is ignored would not."""


def _import_all(info: dict[str, Any]) -> Entry:
    """Import what every worker needs, from where the driver would import it; return what a worker runs."""
    info["threads_variables"] = ours = [name for name in _THREADS_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    if KEEP_VARIABLE not in os.environ:
        # Devices become visible to those who are given some.
        for variables in VISIBLE_VARIABLES.values():
            os.environ.update(dict.fromkeys(variables, ""))
    path = [entry for entry in info.get("driver_sys_path", ()) if entry]
    sys.path[:] = path + [entry for entry in sys.path if entry not in path]
    if sys.flags.no_site:
        # The node runs without `site`, which costs time; programs count on it, and editable installs hang on
        # it.
        import site

        site.main()
        sys.path[:] = path + [entry for entry in sys.path if entry not in path]

    for name in ("cloudpickle", "plasma"):
        importlib.import_module(name)
    # Much of these is imported where it is first used, for the sake of the driver's start. A worker uses all
    # of it.
    for name in _modules_of("orchestrator.core"):
        if name not in _LATER_IMPORTS:
            importlib.import_module(name)
    return load_entry(info.get("worker_entry", _ENTRY))


def load_entry(name: str) -> Entry:
    """Return what a worker runs, from its name."""
    module, _, function = name.partition(":")
    entry: Entry = getattr(importlib.import_module(module), function)
    return entry


def _modules_of(package: str) -> list[str]:
    directory = importlib.import_module(package).__path__[0]
    files = [file for file in os.listdir(directory) if file.endswith(".py") and not file.startswith("_")]
    return [f"{package}.{file[:-3]}" for file in sorted(files)]


def _reseed() -> None:
    """Give the worker random numbers of its own. `random` does so by itself at a fork; numpy doesn't."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
