"""Sessions of others: `init(address=...)` attaches to one that stands, and `shutdown` leaves it as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from orchestrator import exceptions
from orchestrator.api.driver_facts import environment_of_session, import_path, main_path
from orchestrator.api.session import Session, _sessions, open_session
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import random_hex
from orchestrator.core.current import current

#: Time for the node to hand over what workers have printed.
DETACH_TIMEOUT_S = 2.0


class AttachedSession(Session):
    """A session that was there before and goes on without this process."""

    def _end_processes(self) -> None:
        runtime = self._runtime
        try:
            if self._node.alive():
                runtime.node.ask({"op": "detach"}, timeout_s=DETACH_TIMEOUT_S)
        except exceptions.OrchestratorError:
            pass  # it does not answer: what is lost are lines
        self._close_runtime("this process has left its session: shutdown() was called")
        # Only now, so that the slot in the store is free when the node hears of it.
        self._node.hang_up()


def attach(
    address: str,
    *,
    info: dict[str, Any],
    runtime_env: Mapping[str, Any] | None,
    shows_logs: bool,
    observes: bool = False,
) -> Session:
    """Attach this process to the session at an address.

    Args:
        address: as `node.attaching.find_session` takes it.
        info: what `init` was given: `namespace` and `logging`.
        observes: it looks at others and submits nothing: the command line.

    Raises:
        ConnectionError: there is no such session, or it does not answer.
    """
    from orchestrator.node import attaching
    from orchestrator.objects.plasma_adapter import Store

    path = attaching.find_session(address)
    node, fd = attaching.knock(path)
    try:
        try:
            store = Store.attach(fd, name="observer" if observes else "driver")
        except Exception as error:
            raise ConnectionError(
                f"the store of the session at {path} cannot be attached: {error}"
            ) from error
        finally:
            os.close(fd)
        try:
            return _attach(path, node, store, info, runtime_env, shows_logs, observes)
        except BaseException:
            store.close()
            raise
    except BaseException:
        node.hang_up()
        raise


def _attach(
    path: str,
    node: Any,
    store: Any,
    info: dict[str, Any],
    runtime_env: Mapping[str, Any] | None,
    shows_logs: bool,
    observes: bool,
) -> Session:
    from orchestrator.api import getting, remote  # noqa: F401
    from orchestrator.api.worker_logs import WorkerLogs
    from orchestrator.core.runtime import Runtime

    facts = node.facts
    anonymous = not info["namespace"]
    info = {
        **info,
        "address": path,
        "session": facts["session"],
        "session_dir": facts["session_dir"],
        "driver_address": store.address,
        "driver_sys_path": import_path(),
        "driver_cwd": os.getcwd(),
        "num_cpus": facts["num_cpus"],
        "labels": facts["labels"],
        "node_index": facts["node_index"],
        "head_index": facts["head_index"],
        "node_id": facts["node_id"],
        "main_path": main_path(),
        "namespace": info["namespace"] or random_hex(),
        "observes": observes,
    }
    if runtime_env:
        info["environment"] = environment_of_session(runtime_env, info)
    runtime = Runtime(store, info["session"], node.address, info)
    request = {
        "op": "attach",
        "ticket": facts["ticket"],
        "namespace": info["namespace"],
        "is_anonymous": anonymous,
        "pid": os.getpid(),
        "argv": [word[:200] for word in sys.argv[:20]],
        "path": info["driver_sys_path"],
        "cwd": info["driver_cwd"],
        "main": main_path(),
        "logging": info["logging"],
        "shows_lines": shows_logs,
        "observes": observes,
    }
    try:
        answer = runtime.node.ask(request, timeout_s=5.0)
        if answer.get("error"):
            raise ConnectionError(f"the session at {path} takes no driver: {answer['error']}")
    except exceptions.OrchestratorError as error:
        runtime.close()
        raise ConnectionError(f"the node of the session at {path} does not answer: {error}") from None
    except BaseException:
        runtime.close()
        raise
    info["job"] = answer["job"]
    logs = WorkerLogs(monotonic) if shows_logs else None
    if not observes:
        runtime.node.send({"op": "pool", "env": runtime.environment.key})
    return open_session(AttachedSession, runtime, node, store, logs)


def observe(address: str) -> Session:
    """Attach this process to a session to look at it: it is no job, and submits nothing.

    Raises:
        ConnectionError: there is no such session, or it does not answer.
        SessionError: this process takes part in a session.
    """
    with _sessions.lock:
        if current() is not None:
            raise exceptions.SessionError("this process takes part in a session already")
        logging = {"configure": True, "level": "WARNING", "format": None, "config": None}
        info = {"namespace": None, "logging": logging}
        _sessions.session = attach(address, info=info, runtime_env=None, shows_logs=False, observes=True)
        return _sessions.session
