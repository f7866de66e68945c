"""A shape accepts exactly the calls the function itself accepts."""

from __future__ import annotations

import functools
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.common.call_shape import CallShape


def plain(a, b=1): ...
def positional_only(a, b, /, c=2): ...
def keyword_only(a, *, b, c=1): ...
def variadic(a, *rest, **others): ...
def nothing(): ...


@functools.lru_cache
def wrapped(a, b=2): ...


FUNCTIONS = [plain, positional_only, keyword_only, variadic, nothing, wrapped, functools.partial(plain, 1)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: getattr(f, "__name__", "partial"))
@given(count=st.integers(0, 5), names=st.sets(st.sampled_from(["a", "b", "c", "d"])))
def test_it_agrees_with_signature_bind(function, count, names):
    args, kwargs = tuple(range(count)), dict.fromkeys(names, 0)
    shape = CallShape.of(function)
    assert shape is not None
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            shape.check(args, kwargs)
    else:
        shape.check(args, kwargs)


def test_a_method_without_its_self():
    class A:
        def method(self, x): ...

    shape = CallShape.of(A.method, skip_first=True)
    shape.check((1,), {})
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        shape.check((), {})


def test_it_travels():
    shape = pickle.loads(pickle.dumps(CallShape.of(keyword_only)))
    with pytest.raises(TypeError, match="keyword-only argument: 'b'"):
        shape.check((1,), {})


def test_functions_that_do_not_tell_are_not_checked():
    assert CallShape.of(print) is None or CallShape.of(print).high > 0
