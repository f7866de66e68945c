"""Every row of the conformance table that names a test names one that exists."""

from __future__ import annotations

import ast
import re

from tests.tidy.tree import ROOT

TABLE = ROOT / "docs" / "coming-from-ray.md"
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
