"""Every row of the conformance table that names a test names one that exists."""

from __future__ import annotations

import ast
import re

from tests.tidy.tree import ROOT

TABLE = ROOT / "docs" / "coming-from-ray.md"
#: Sections that must be whole, with how many rows they have.
ROWS = {1: 13, 2: 30, 3: 21, 4: 8, 5: 28, 6: 17, 7: 8, 8: 10, 9: 20, 13: 30}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def functions_of(path: str) -> set[str]:
    """The names of the functions and methods in a test file, as `name` and `Class::name`."""
    names = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


def test_the_tests_of_the_conformance_table_exist() -> None:
    wrong = []
    for path, name in NAMED.findall(TABLE.read_text()):
        if not (ROOT / path).exists() or name not in functions_of(path):
            wrong.append(f"{path}::{name}")
    assert not wrong


def test_the_rows_of_the_conformance_table_are_whole() -> None:
    """A row without a test says why the capability is not here."""
    bare = []
    for line in TABLE.read_text().splitlines():
        if re.match(r"\| (\d+\.\d+)", line) and not NAMED.search(line) and "not here" not in line:
            bare.append(line)
    assert not bare


def test_no_row_of_the_conformance_table_is_missing() -> None:
    there = set(re.findall(r"^\| (\d+\.\d+) \|", TABLE.read_text(), re.MULTILINE))
    missing = [
        f"{section}.{row}"
        for section, count in ROWS.items()
        for row in range(1, count + 1)
        if f"{section}.{row}" not in there
    ]
    assert not missing
