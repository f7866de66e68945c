"""Labels and conditions on them."""

from __future__ import annotations

import pytest

import orchestrator
from orchestrator.common.labels import check_labels, check_selector, matches

NODE = {"tier": "gold", "zone": "a-1", "empty": ""}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("gold", True),
        ("silver", False),
        ("!silver", True),
        ("!gold", False),
        ("in(gold,silver)", True),
        ("in(silver, bronze)", False),
        ("!in(silver)", True),
        ("!in(silver, gold)", False),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    assert matches(check_selector({"tier": condition}).items(), NODE) is expected


@pytest.mark.parametrize(
    ("condition", "expected"), [("v", False), ("!v", True), ("in(v)", False), ("!in(v)", True)]
)
def test_a_label_that_is_absent_is_none_of_the_values(condition: str, expected: bool) -> None:
    assert matches({"absent": condition}.items(), NODE) is expected


def test_all_conditions_of_a_selector_must_hold() -> None:
    assert matches({"tier": "gold", "zone": "!b-1", "empty": ""}.items(), NODE)
    assert not matches({"tier": "gold", "zone": "b-1"}.items(), NODE)
    assert matches({}.items(), NODE)


@pytest.mark.parametrize("condition", ["in()", "!!a", "in(a", "a b", "(a)", "in(a,b c)", "a,b", "x" * 64])
def test_what_is_no_condition(condition: str) -> None:
    with pytest.raises(ValueError, match=r"label_selector\['k'\]"):
        check_selector({"k": condition})


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ({"ray.io/market-type": "spot"}, "set by the runtime"),
        ({"k": "v w"}, "no label"),
        ({"k": "x" * 64}, "no label"),
        ({"-k": "v"}, "no name of a label"),
        ({"": "v"}, "no name of a label"),
    ],
)
def test_what_is_no_label(labels: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_labels(labels)
    with pytest.raises(ValueError, match=match):
        orchestrator.init(num_cpus=1, labels=labels)


def test_names_may_have_a_prefix() -> None:
    assert check_labels({"example.com/rack": "r_1.2"}) == {"example.com/rack": "r_1.2"}


def test_labels_are_texts() -> None:
    with pytest.raises(TypeError, match="3 is none"):
        check_labels({"k": 3})  # type: ignore[dict-item]
