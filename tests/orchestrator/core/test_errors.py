"""Errors on their way between processes."""

from __future__ import annotations

import pytest

from orchestrator.core.values import dump_error, load_error, task_error
from orchestrator.exceptions import SerializationError, TaskError, UnserializableException, WorkerCrashedError


def travelled(error):
    try:
        raise error
    except BaseException as raised:
        return load_error(dump_error(task_error(raised, "f")))


class NeedsTwo(Exception):
    def __init__(self, a, *, b):
        super().__init__(a)
        self.b = b


class Final(Exception):
    def __init_subclass__(cls):
        raise TypeError("no subclasses")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("k"),
        OSError(2, "no such file"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_it_is_an_instance_of_both_classes(error):
    arrived = travelled(error)
    assert isinstance(arrived, TaskError) and isinstance(arrived, type(error))
    assert type(arrived.cause) is type(error) and arrived.__cause__ is arrived.cause
    assert arrived.args == error.args and str(error) in str(arrived)


def test_attributes_come_along():
    arrived = travelled(OSError(2, "no such file", "name"))
    assert (arrived.cause.errno, arrived.cause.filename) == (2, "name")


def test_a_class_that_refuses_subclasses():
    arrived = travelled(Final("x"))
    assert type(arrived) is TaskError and type(arrived.cause) is Final


def test_a_class_that_does_not_unpickle():
    arrived = travelled(NeedsTwo(1, b=2))
    assert type(arrived.cause) is UnserializableException and arrived.cause.type_name == "NeedsTwo"
    assert "NeedsTwo: 1" in str(arrived)


def test_an_error_within_an_error_keeps_its_class():
    inner = travelled(ValueError("deep"))
    outer = travelled(inner)
    assert isinstance(outer, ValueError) and "deep" in str(outer)


def test_errors_of_the_runtime_keep_theirs():
    assert isinstance(travelled(WorkerCrashedError("died")), WorkerCrashedError)
    assert isinstance(travelled(SerializationError("no")), TypeError)


def test_exceptions_that_are_no_errors():
    arrived = travelled(SystemExit(3))
    assert type(arrived) is TaskError and arrived.cause.code == 3


def test_each_load_is_a_fresh_exception():
    blob = dump_error(task_error(ValueError("x"), "f"))
    assert load_error(blob) is not load_error(blob)
