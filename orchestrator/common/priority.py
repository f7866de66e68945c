"""Why an object of another node is wanted here."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """Who waits for it, the most urgent first."""

    #: a `get`
    GET = 0
    #: a task, for an argument
    ARGUMENT = 1
    #: nobody, or a `wait` for any of several
    PREFETCH = 2


GET, ARGUMENT, PREFETCH = Priority
