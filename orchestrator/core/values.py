"""Values and errors on their way between processes.

A small value travels inside a message, as itself when it is made of builtins and as bytes
otherwise; a large one, or one with references inside, is put into the store.
"""

from __future__ import annotations

import copy
import os
import pickle
import socket
import sys
import traceback
from types import TracebackType
from typing import Any

from orchestrator.core.failures import see
from orchestrator.exceptions import (
    OrchestratorError,
    TaskError,
    UnserializableException,
)
from orchestrator.objects.plasma_adapter import PLASMA_DIRECTORY, PlasmaError, encode, loads

#: Frames of files in these directories are ours, not the user's.
OWN_PACKAGES = (
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
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OWN_PACKAGES):
        trace = trace.tb_next
    return trace


def task_error(error: BaseException, function: str) -> TaskError:
    """Wrap what user code raised, with the text of its traceback.

    The cause of an error of a task that this one has waited for is what that one raised.
    """
    cause = error.cause if isinstance(error, TaskError) else error
    trace = error.__traceback__
    error.__traceback__ = user_frames(trace)
    try:
        if trace is not None and error.__traceback__ is None:
            # Raised by this package about what the task returned: there is nothing of the user's to show.
            text = f"{type(error).__name__}: {error}{_import_advice(error)}"
            return TaskError(cause, function, os.getpid(), text)
        text = _traceback_text(error) + _place_advice(error)
    except Exception:
        text = f"{type(error).__name__} (its traceback cannot be formatted)"
    return TaskError(cause, function, os.getpid(), text)


def _import_advice(error: BaseException) -> str:
    """Say where this process has looked for a module that a value or a function needs."""
    if not isinstance(error.__cause__, ModuleNotFoundError):
        return ""
    places = "".join(f"\n    {place}" for place in sys.path)
    return _place_advice(error.__cause__) or (
        "\nWorkers import from where the driver did when it called init(); what it has added to sys.path "
        "since they don't know. Add it before init(), or pass runtime_env={'py_modules': [...]}. "
        "This worker has "
        f"looked in:{places}"
    )


def _place_advice(error: BaseException) -> str:
    """Say which of the places that the driver imports from are not on this machine."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    absent = [place for place in sys.path if place and not place.endswith(".zip")]
    absent = [place for place in absent if not os.path.exists(place)]
    if not absent:
        return ""
    return (
        f"\nThis machine ({socket.gethostname()}) does not have {', '.join(absent)}, from which the driver "
        "imports. Have what tasks import brought here: init(runtime_env={'working_dir': DIRECTORY}), or "
        "{'py_modules': [...]}, or put it into the same place on each machine.\n"
    )


def _traceback_text(error: BaseException) -> str:
    """Format an exception: the user's frames only, and no cause of a TaskError, whose own text has that."""
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    link_error: BaseException | None = error
    while link is not None and link_error is not None:
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(OWN_PACKAGES)]
        if isinstance(link_error, TaskError):
            link.__cause__ = link.__context__ = None
        elif link.__cause__ is not None:
            link, link_error = link.__cause__, link_error.__cause__
            continue
        link, link_error = link.__context__, link_error.__context__
    return "".join(whole.format())


def dump_error(error: BaseException) -> bytes:
    """Return the bytes of an exception, of the same one rebuilt from its parts, or of a stand-in.

    The journey is tried here, because a class whose constructor needs other things than its `args` pickles
    well and fails, or says something else, only when it arrives.
    """
    cause = error.cause if isinstance(error, TaskError) else error
    body: Any = error
    try:
        blob = encode(body).to_bytes()
        if _text_on_arrival(loads(blob), error) != str(cause):
            raise TypeError("it arrives with another text")
    except (Exception, SystemExit) as reason:  # pickling runs the user's code
        try:
            body = _Dismantled(error, reason)
            blob = encode(body).to_bytes()
            _text_on_arrival(loads(blob), error)
        except (Exception, SystemExit):
            stand_in: BaseException = _stand_in(cause, reason)
            if isinstance(error, TaskError):
                stand_in = TaskError(stand_in, error.function, error.pid, error.remote_traceback)
            return encode(stand_in).to_bytes()
    return _with_context(error, body, blob) if isinstance(error, TaskError) else blob


def _text_on_arrival(arrived: Any, error: BaseException) -> str:
    """Return the text of what has arrived; raise TypeError if its class is not that of what was sent."""
    if isinstance(error, TaskError):
        arrived, error = arrived.cause, error.cause
    if type(arrived) is not type(error):
        raise TypeError(f"it arrives as a {type(arrived).__name__}")
    return str(arrived)


class _Dismantled:
    """An exception in parts, to be put together without its constructor; unpickles as the exception.

    Attributes that cannot travel are left behind, and the traceback's text says so.
    """

    def __init__(self, error: BaseException, reason: BaseException) -> None:
        cause = error.cause if isinstance(error, TaskError) else error
        left: list[str] = []
        state = {}
        for name, value in getattr(cause, "__dict__", {}).items():
            trouble = _trouble_with(value)
            if trouble is None:
                state[name] = value
            else:
                left.append(f"attribute {name!r} ({trouble})")
        self.parts = (type(cause), tuple(map(_argument, cause.args)), state)
        self.wrapping: tuple[Any, ...] | None = None
        if isinstance(error, TaskError):
            text = error.remote_traceback
            if left:
                text = f"{text.rstrip()}\nleft behind, as it cannot travel: {', '.join(left)}\n"
            self.wrapping = (error.function, error.pid, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_put_together, (self.parts, self.wrapping))


def _trouble_with(value: Any) -> str | None:
    """Say why a value cannot travel; None if it can."""
    try:
        loads(encode(value).to_bytes())
    except (Exception, SystemExit) as error:
        return f"{type(value).__name__}: {str(error)[:200]}"
    return None


def _argument(value: Any) -> Any:
    """Return an argument of an exception, or its text."""
    return value if _trouble_with(value) is None else repr(value)


def _put_together(parts: tuple[Any, ...], wrapping: tuple[Any, ...] | None) -> BaseException:
    cls, args, state = parts
    try:
        error: BaseException = cls.__new__(cls, *args)
    except TypeError:
        error = Exception.__new__(cls)
    if error.args != args:
        error.args = args
    error.__dict__.update(state)
    return error if wrapping is None else TaskError(error, *wrapping)


def _with_context(error: TaskError, body: Any, blob: bytes) -> bytes:
    """Keep `__cause__` and `__context__` of the user's exception, which pickle drops."""
    chained = {
        name: dump_error(getattr(error.cause, name))
        for name in ("__cause__", "__context__")
        if getattr(error.cause, name) is not None
    }
    return encode(_Chained(body, chained)).to_bytes() if chained else blob


class _Chained:
    """A TaskError with the exceptions its cause was raised from; unpickles as the error itself."""

    def __init__(self, body: Any, chained: dict[str, bytes]) -> None:
        self.body = body
        self.chained = chained

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_chained, (self.body, self.chained))


def _rebuild_chained(error: TaskError, chained: dict[str, bytes]) -> TaskError:
    for name, blob in chained.items():
        setattr(error.cause, name, load_error(blob))
    return error


def _stand_in(cause: BaseException, reason: BaseException) -> UnserializableException:
    """Return an exception that only tells of another one."""
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


def raisable(error: Any) -> BaseException:
    """Return an exception that nobody has raised yet, so that tracebacks do not grow with each `get`."""
    error = see(error)
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
