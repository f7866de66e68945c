"""A worker's life: from the fork to its last message."""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from orchestrator.core import log_records
from orchestrator.core import runtime as runtimes
from orchestrator.core.environment_scope import run_hook
from orchestrator.core.executor import Executor
from orchestrator.core.runtime import Runtime
from orchestrator.objects.plasma_adapter import Store

_SIGTERM = frozenset({signal.SIGTERM})


def run_worker(store_fd: int, node_address: int, token: int, info: dict[str, Any]) -> NoReturn:
    """Be a worker of a session, in a process forked for it; its stdout and stderr are set already.

    Args:
        store_fd: descriptor of the session's store.
        node_address: where the node process is.
        token: what the node knows this process by until it is ready.
        info: the session's facts: `session`, `driver_sys_path`, `driver_cwd`, `namespace`, ...
    """
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A crash in C code then says where in Python it was, and the report of the death has it.
        faulthandler.enable(all_threads=False)
        # breakpoint() looks this up when it is called; a worker has no terminal for plain pdb.
        os.environ.setdefault("PYTHONBREAKPOINT", "orchestrator.util.rpdb.set_trace")
        _enter_environment(info)
        store = Store.attach(store_fd, name=f"worker {os.getpid()}")
        runtime = Runtime(store, info["session"], node_address, info)
        runtimes.install(runtime)
        logging_config = (info.get("logging") or {}).get("config")
        if logging_config is not None:
            log_records.configure_root(logging_config, runtime)
        executor = Executor(runtime)
        runtime.executor = executor
        # The node asks an idle worker it needs no more to end; one that is busy is killed after a while.
        signal.signal(signal.SIGTERM, lambda signum, frame: executor.stop())
        # A SIGTERM for the child must find the child's handler, so it waits until that is set.
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _SIGTERM),
            after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGTERM),
            after_in_child=lambda: _leave_worker(executor),
        )
        if info.get("setup_hook"):
            run_hook(info["setup_hook"])
        runtime.node.send({"op": "ready", "token": token, "pid": os.getpid()})
        code = _work(runtime, executor)
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        # Whatever threads user code has left behind must not keep a dead worker alive.
        os._exit(code)


def _leave_worker(executor: Executor) -> None:
    """In a child that a task has forked: it is a process of the task's, no worker."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGTERM)
    executor.replies.forked()


def _work(runtime: Runtime, executor: Executor) -> int:
    runtime.pump.start()
    executor.run()
    actor = executor.actor
    if actor is None:
        _hand_over(runtime)
        atexit._run_exitfuncs()
        return 0
    if actor.owns_loop:
        # A loop that waits for messages itself needs nobody to read them in the background.
        if actor.is_async:
            runtime.pump.stop()
        actor.run()
    _hand_over(runtime)
    actor.finish()
    return 0


def _hand_over(runtime: Runtime) -> None:
    try:
        runtime.census.hand_over()
    except Exception:
        pass  # the session ends too, or the store is full


def _enter_environment(info: dict[str, Any]) -> None:
    """Make what the driver can import importable here, and stand where it stands."""
    known = set(sys.path)
    for entry in info.get("driver_sys_path") or ():
        if entry not in known:
            sys.path.append(entry)
            known.add(entry)
    try:
        os.chdir(info["driver_cwd"])
    except (KeyError, OSError):
        pass
    importlib.invalidate_caches()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
