"""Decorators that say how stable an interface is."""

from __future__ import annotations

import warnings

import pytest

from orchestrator.util.annotations import Deprecated, DeveloperAPI, PublicAPI, RayDeprecationWarning


@pytest.mark.parametrize(
    "mark",
    [
        PublicAPI,
        PublicAPI(stability="beta"),
        PublicAPI(api_group="Tasks"),
        DeveloperAPI,
        DeveloperAPI(),
        Deprecated,
        Deprecated(message="use g"),
    ],
)
def test_what_is_marked_stays_what_it_is(mark):
    def f():
        return 1

    class C:
        pass

    assert mark(f) is f and mark(C) is C
    assert mark(len) is len, "also where no docstring can be written"
    assert mark(property(lambda self: 1)).fget(None) == 1


def test_the_docstring_says_so():
    @Deprecated(message="Use g.")
    def f():
        """Do it.

        At length.
        """

    assert f.__doc__.startswith("Do it.\n\nAt length.\n\n**DEPRECATED:**") and "Use g." in f.__doc__
    assert PublicAPI(lambda: 1).__doc__ is None, "there is nothing to say of what is stable"


def test_a_warning_where_one_is_wanted():
    @Deprecated(message="Use g.", warning=True)
    def f(x):
        return x

    @Deprecated(warning=True)
    class C:
        def __init__(self, x):
            self.x = x

    with pytest.warns(RayDeprecationWarning, match="Use g.") as caught:
        assert f(2) == 2 and f.__name__ == "f"
    assert caught[0].filename == __file__
    with pytest.warns(RayDeprecationWarning):
        assert C(3).x == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Deprecated(lambda: 1)() == 1


def test_an_unknown_stability():
    with pytest.raises(ValueError, match="stable, beta, alpha, not 'firm'"):
        PublicAPI(stability="firm")
