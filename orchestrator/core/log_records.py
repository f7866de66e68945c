"""What log records look like, and what they tell of the place they come from.

Two loggers are concerned. The *root* logger is the program's: it is left alone unless `init` got a
`LoggingConfig`; then it writes to stderr, in the driver and in each worker. The logger `orchestrator` is this
package's own, for what `Runtime.warn` says.

`logging` is imported where it is first used: a session that logs nothing does not wait for it.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import object_id

if TYPE_CHECKING:
    import logging

    from orchestrator.core.runtime import Runtime

OWN = "orchestrator"
OWN_FORMAT = "orchestrator: %(message)s"

#: What every record is shown with.
_ALWAYS = ("asctime", "levelname", "message", "filename", "lineno", "process")


def task_id(runtime: Runtime) -> str | None:
    """Return the id of the running task, which is the id of its first result; None in a driver."""
    run = runtime.current_task
    if run is None:
        return None
    submitter, seq = run
    return object_id(runtime.elsewhere.prefix_of(submitter), seq).hex()


def ids_of(runtime: Runtime) -> dict[str, str]:
    """Return the ids of what runs in this process at this moment."""
    from orchestrator.core.history import name_of

    if not runtime.open:
        return {"job_id": runtime.info.get("job", runtime.session)}
    ids = {
        "job_id": runtime.info.get("job", runtime.session),
        "worker_id": runtime.worker_id,
        "node_id": runtime.node_id,
    }
    executor = runtime.executor
    if executor is None:
        return ids
    task = task_id(runtime)
    if task is not None:
        ids["task_id"] = task
    actor = executor.actor
    function = executor.current_function if actor is None else actor.calling()[1]
    if function is not None:
        name = name_of(function)
        ids["task_name"], ids["task_func_name"] = executor.circumstances.name or name, name
    if actor is not None:
        ids["actor_id"] = actor.actor_id.hex()
        if actor.name:
            ids["actor_name"] = actor.name
    return ids


def configure_root(config: dict[str, Any], runtime: Runtime) -> logging.Handler:
    """Have the root logger write to stderr as a `LoggingConfig` says; return the handler that does."""
    import logging

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = _stderr_handler()
    handler.setFormatter(_formatter(config, runtime))
    root.addHandler(handler)
    root.setLevel(config["log_level"])
    return handler


def unconfigure_root(handler: logging.Handler) -> None:
    """Take away what `configure_root` has added: the session is over."""
    import logging

    logging.getLogger().removeHandler(handler)


def own_logger(info: dict[str, Any]) -> logging.Logger:
    """Return the logger for this package's own words, set up as `init` was told."""
    import logging

    logger = logging.getLogger(OWN)
    own = info.get("logging") or {}
    level = own.get("level", "INFO")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    for handler in list(logger.handlers):
        if getattr(handler, "is_ours", False):
            logger.removeHandler(handler)
    # With a root logger of ours, or a program that sets up its own, records go there.
    logger.propagate = bool(own.get("config")) or not own.get("configure", True)
    if not logger.propagate:
        handler = _stderr_handler()
        handler.is_ours = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter(own.get("format") or OWN_FORMAT))
        logger.addHandler(handler)
    return logger


def _stderr_handler() -> logging.Handler:
    import logging

    class Stderr(logging.StreamHandler):  # type: ignore[type-arg]
        """Writes to what `sys.stderr` is at that moment: programs and test runners replace it."""

        @property
        def stream(self) -> Any:
            return sys.stderr

        @stream.setter
        def stream(self, value: Any) -> None:
            pass

    return Stderr()


def _formatter(config: dict[str, Any], runtime: Runtime) -> logging.Formatter:
    import logging

    plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
    extra_attributes = config["additional_log_standard_attrs"]

    def details(record: logging.LogRecord) -> dict[str, Any]:
        """Ids, what the program added by `extra=`, and the attributes that were asked for."""
        found: dict[str, Any] = dict(ids_of(runtime))
        found.update((name, value) for name, value in vars(record).items() if name not in plain)
        found.update((name, getattr(record, name, None)) for name in extra_attributes)
        return found

    class Text(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            pairs = " ".join(f"{name}={value}" for name, value in details(record).items())
            return f"{super().formatMessage(record)} {pairs}"

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.message = record.getMessage()
            record.asctime = self.formatTime(record)
            entry = {name: getattr(record, name) for name in _ALWAYS} | details(record)
            if record.exc_info:
                entry["exc_text"] = self.formatException(record.exc_info)
            if record.stack_info:
                entry["stack_info"] = self.formatStack(record.stack_info)
            entry["timestamp_ns"] = int(record.created * 1e9)
            return json.dumps(entry, default=str)

    if config["encoding"] == "JSON":
        return Json()
    return Text("%(asctime)s %(levelname)s %(filename)s:%(lineno)d -- %(message)s")
