"""Every row of the failure matrix names a test, and each of them exists."""

from __future__ import annotations

from tests.tidy.test_conformance import NAMED, functions_of
from tests.tidy.tree import ROOT

MATRIX = ROOT / "docs" / "failure-matrix.md"


def test_the_tests_of_the_failure_matrix_exist() -> None:
    named = NAMED.findall(MATRIX.read_text())
    assert named
    wrong = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or name not in functions_of(path)
    ]
    assert not wrong


def test_every_row_of_the_failure_matrix_names_a_test() -> None:
    rows = [line for line in MATRIX.read_text().splitlines() if line.startswith("| ")][1:]
    assert rows
    assert not [row for row in rows if not NAMED.search(row)]
