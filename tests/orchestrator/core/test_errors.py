"""Errors on their way between processes."""

from __future__ import annotations

import sys
import threading

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


def test_a_class_whose_constructor_needs_more_than_its_args():
    arrived = travelled(NeedsTwo(1, b=2))
    assert isinstance(arrived, NeedsTwo) and type(arrived.cause) is NeedsTwo
    assert (arrived.b, arrived.args) == (2, (1,))


class MakesItsText(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")


def test_a_class_that_would_say_something_else_on_arrival():
    assert travelled(MakesItsText(7)).cause.args == ("code 7",)


class Structured(Exception):
    """As some libraries have them: arguments by keyword, a response, nothing handed to Exception."""

    def __init__(self, *, response, operation):
        self.response, self.operation = response, operation

    def __str__(self):
        return f"{self.operation}: {self.response['code']}"


def test_a_class_that_hands_nothing_to_exception():
    arrived = travelled(Structured(response={"code": 404}, operation="Get"))
    assert isinstance(arrived, Structured) and arrived.response == {"code": 404}
    assert "Get: 404" in str(arrived)


class WithSlots(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code

    def __reduce__(self):
        return (WithSlots, (self.code,))


def test_attributes_in_slots():
    arrived = travelled(WithSlots(3))
    assert isinstance(arrived, WithSlots) and (arrived.code, arrived.cause.code) == (3, 3)


def test_what_cannot_travel_is_left_behind_and_named():
    error = ValueError("told you")
    error.lock, error.code = threading.Lock(), 7
    arrived = travelled(error)
    assert type(arrived.cause) is ValueError and arrived.code == 7 and not hasattr(arrived, "lock")
    assert "left behind" in str(arrived) and "'lock'" in str(arrived)


def test_an_argument_that_cannot_travel_arrives_as_its_text():
    arrived = travelled(ValueError("lock", threading.Lock()))
    assert type(arrived.cause) is ValueError and "lock object" in arrived.args[1]


def test_a_class_that_cannot_be_pickled_at_all():
    class Impossible(Exception):
        lock = threading.Lock()

    arrived = travelled(Impossible("x"))
    assert isinstance(arrived, TaskError) and type(arrived.cause) is UnserializableException
    assert arrived.cause.type_name.endswith("Impossible") and "Impossible: x" in str(arrived)


def test_a_constructor_that_exits_on_arrival():
    class Exits(Exception):
        def __init__(self, *args):
            super().__init__(*args)

        def __reduce__(self):
            return (sys.exit, (3,))

    assert isinstance(travelled(Exits("x")).cause, Exits)


def test_what_it_was_raised_from_comes_along():
    try:
        try:
            raise NeedsTwo("inner", b=1)
        except NeedsTwo as inner:
            raise ValueError("outer") from inner
    except ValueError as error:
        arrived = travelled(error)
    assert isinstance(arrived.cause.__cause__, NeedsTwo) and arrived.cause.__cause__.b == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup and notes came with Python 3.11")
def test_groups_and_notes():
    error = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])  # noqa: F821
    error.add_note("remember")
    arrived = travelled(error)
    assert isinstance(arrived, ExceptionGroup) and isinstance(arrived, TaskError)  # noqa: F821
    assert arrived.message == "several" and arrived.cause.__notes__ == ["remember"]
    matching, rest = arrived.split(KeyError)
    assert len(matching.exceptions) == len(rest.exceptions) == 1


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
