"""Values and errors on their way between processes.

A small value travels inside a message, as itself when it is made of builtins and as bytes
otherwise; a large one, or one with references inside, is put into the store.
"""

from __future__ import annotations

import copy
import os
import pickle
import traceback
from types import TracebackType
from typing import Any

from orchestrator.exceptions import (
    OrchestratorError,
    TaskError,
    UnserializableException,
)
from orchestrator.objects.plasma_adapter import PLASMA_DIRECTORY, PlasmaError, encode, loads

#: Frames of files in these directories are ours, not the user's.
_OWN_PACKAGES = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    PLASMA_DIRECTORY + os.sep,
)


class StoredError:
    """What is stored under an object's id when its task failed."""

    __slots__ = ("blob",)

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoredError, (self.blob,))

    def rebuild(self) -> BaseException:
        """Return the exception to raise."""
        return load_error(self.blob)


# -- errors


def user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames of this package at the outer end of a traceback."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN_PACKAGES):
        trace = trace.tb_next
    return trace


def task_error(error: BaseException, function: str) -> TaskError:
    """Wrap what user code raised, with the text of its traceback."""
    trace = error.__traceback__
    error.__traceback__ = user_frames(trace)
    try:
        if trace is not None and error.__traceback__ is None:
            # Raised by this package about what the task returned: there is nothing of the user's to show.
            return TaskError(error, function, os.getpid(), f"{type(error).__name__}: {error}")
        text = _traceback_text(error)
    except Exception:
        text = f"{type(error).__name__} (its traceback cannot be formatted)"
    return TaskError(error, function, os.getpid(), text)


def _traceback_text(error: BaseException) -> str:
    """Format an exception: the user's frames only, and no cause of a TaskError, whose own text has that."""
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    link_error: BaseException | None = error
    while link is not None and link_error is not None:
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(_OWN_PACKAGES)]
        if isinstance(link_error, TaskError):
            link.__cause__ = link.__context__ = None
        elif link.__cause__ is not None:
            link, link_error = link.__cause__, link_error.__cause__
            continue
        link, link_error = link.__context__, link_error.__context__
    return "".join(whole.format())


def dump_error(error: BaseException) -> bytes:
    """Return the bytes of an exception, or of a stand-in when it does not survive the journey.

    The journey is tried here, because a class whose constructor needs more than its `args` pickles
    well and fails only when it arrives.
    """
    try:
        blob = encode(error).to_bytes()
        arrived = loads(blob)
        if type(error) is TaskError:
            if type(arrived.cause) is not type(error.cause):
                raise TypeError(f"it arrives as a {type(arrived.cause).__name__}")
            blob = _with_context(error, blob)
        return blob
    except (Exception, SystemExit) as reason:  # pickling runs the user's code
        cause = error.cause if isinstance(error, TaskError) else error
        stand_in: BaseException = _stand_in(cause, reason)
        if isinstance(error, TaskError):
            stand_in = TaskError(stand_in, error.function, error.pid, error.remote_traceback)
        return encode(stand_in).to_bytes()


def _with_context(error: TaskError, blob: bytes) -> bytes:
    """Keep `__cause__` and `__context__` of the user's exception, which pickle drops, if they can travel."""
    cause = error.cause
    chained = {
        name: getattr(cause, name)
        for name in ("__cause__", "__context__")
        if getattr(cause, name) is not None
    }
    if not chained:
        return blob
    try:
        with_chain = encode(_Chained(error, chained)).to_bytes()
        loads(with_chain)
        return with_chain
    except Exception:
        return blob


class _Chained:
    """A TaskError with the exceptions its cause was raised from; unpickles as the error itself."""

    def __init__(self, error: TaskError, chained: dict[str, BaseException]) -> None:
        self.error = error
        self.chained = chained

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_chained, (self.error, self.chained))


def _rebuild_chained(error: TaskError, chained: dict[str, BaseException]) -> TaskError:
    for name, value in chained.items():
        setattr(error.cause, name, value)
    return error


def _stand_in(cause: BaseException, reason: BaseException) -> UnserializableException:
    try:
        message = str(cause)
    except Exception:
        message = "(its text cannot be made)"
    return UnserializableException(
        type(cause).__qualname__, message, f"{type(reason).__name__}: {reason}"[:500]
    )


def load_error(blob: bytes) -> BaseException:
    """Return a fresh exception, ready to be raised."""
    try:
        error = loads(blob)
    except Exception as reason:
        return UnserializableException("remote exception", "it cannot be rebuilt here", str(reason))
    return raisable(error)


def raisable(error: BaseException | bytes) -> BaseException:
    """Return an exception that nobody has raised yet, so that tracebacks do not grow with each `get`."""
    if type(error) is bytes:
        return load_error(error)
    if isinstance(error, TaskError):
        return error.as_raised()
    if isinstance(error, (OrchestratorError, PlasmaError)):
        fresh = copy.copy(error)
        fresh.__cause__ = error.__cause__
        return fresh
    return error  # type: ignore[return-value]


dumps = pickle.dumps
