"""How programs log: `init(logging_config=LoggingConfig(encoding="JSON"))`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ENCODINGS = ("TEXT", "JSON")

#: Attributes of a `logging.LogRecord` that may be asked for.
STANDARD_ATTRIBUTES = frozenset(
    {
        "args",
        "created",
        "exc_info",
        "exc_text",
        "filename",
        "funcName",
        "levelname",
        "levelno",
        "lineno",
        "module",
        "msecs",
        "msg",
        "name",
        "pathname",
        "process",
        "processName",
        "relativeCreated",
        "stack_info",
        "taskName",
        "thread",
        "threadName",
    }
)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class LoggingConfig:
    """The root logger of the driver and of every worker: its level, and what a record looks like.

    Records of either encoding have the ids of the session (`job_id`), the process (`worker_id`,
    `node_id`), and inside tasks and actors theirs (`task_id`, `task_name`, `task_func_name`, `actor_id`,
    `actor_name`).

    Args:
        encoding: "TEXT", a line with `key=value` pairs behind it, or "JSON", one object to a line.
        log_level: a name or a number of the logging module.
        additional_log_standard_attrs: names of attributes of `logging.LogRecord` to add.

    Raises:
        ValueError: an encoding, a level or an attribute that does not exist.
        TypeError: a value of the wrong type.
    """

    __slots__ = ("additional_log_standard_attrs", "encoding", "log_level")

    def __init__(
        self,
        encoding: str = "TEXT",
        log_level: str | int = "INFO",
        additional_log_standard_attrs: Sequence[str] = (),
    ) -> None:
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, not {encoding!r}")
        self.encoding = encoding
        self.log_level = check_level("log_level", log_level)
        if isinstance(additional_log_standard_attrs, str):
            raise TypeError("additional_log_standard_attrs must be a list of names, not a str")
        for name in additional_log_standard_attrs:
            if name not in STANDARD_ATTRIBUTES:
                raise ValueError(
                    f"additional_log_standard_attrs: {name!r} is not an attribute of a log record; "
                    f"they are: {', '.join(sorted(STANDARD_ATTRIBUTES))}"
                )
        self.additional_log_standard_attrs = list(additional_log_standard_attrs)

    def __repr__(self) -> str:
        return f"LoggingConfig({', '.join(f'{name}={value!r}' for name, value in self.to_json().items())})"

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as what a worker is told."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_level(name: str, value: Any) -> str | int:
    """Return a level of the logging module.

    Raises:
        ValueError: no level has this name.
        TypeError: neither a name nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"{name} must be a level's name or number, not {type(value).__name__}")
    if isinstance(value, str):
        value = value.upper()
        if value not in LEVELS:
            raise ValueError(f"{name} must be one of {', '.join(LEVELS)}, or a number, not {value!r}")
    return value
