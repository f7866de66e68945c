"""The errors form three branches, tell their reader what to do, and survive pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from plasma import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]
BRANCHES = (errors.UsageError, errors.WorldError, errors.InternalError)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_in_one_branch_and_documented(cls):
    assert issubclass(cls, errors.PlasmaError)
    if cls is not errors.PlasmaError:
        assert sum(issubclass(cls, branch) for branch in BRANCHES) == 1
    assert len(inspect.getdoc(cls)) > 40


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_survives_pickling(cls):
    back = pickle.loads(pickle.dumps(cls("what happened")))
    assert type(back) is cls
    assert str(back) == "what happened"


def test_callers_catch_what_they_know():
    assert issubclass(errors.GetTimeoutError, TimeoutError)
    assert issubclass(errors.ObjectNotFoundError, LookupError)
    assert issubclass(errors.SerializationError, TypeError)
    assert issubclass(errors.ObjectTooLargeError, errors.ObjectStoreFullError)
    assert issubclass(errors.LayoutVersionError, errors.NotAStoreError)


def test_the_public_list_is_complete():
    public = {
        name for name, value in vars(errors).items() if isinstance(value, type) and not name.startswith("_")
    }
    assert public == set(errors.__all__)
