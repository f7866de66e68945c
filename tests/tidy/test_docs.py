"""The documents say what the code says: sizes, transitions, crash points, and files that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from plasma import testing
from tests.tidy.tree import ROOT, relative

FORMAT = ROOT / "docs" / "plasma-format.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: modules of the core without a face of their own
layout = importlib.import_module("plasma.layout")
lifecycle = importlib.import_module("plasma.lifecycle")

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)\)")
#: `plasma/ring.pyx`, `orchestrator/scheduling/`: something in the repository
PLACE = re.compile(r"(?:plasma|orchestrator|tests|docs|examples|benchmarks|tools)/(?:[\w./-]+\.\w+|[\w/-]+/)")


def section(title: str) -> str:
    """The text below a heading of the format's document, up to the next heading."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", FORMAT.read_text(), re.M | re.S)
    assert found, f"{relative(FORMAT)} has no section {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the tables in a section; heads and rules are left out."""
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_the_sizes_of_structs() -> None:
    written = {name: int(size) for name, size, *_ in rows("Structs")}
    asserted = re.findall(r"assert sizeof\((\w+)\) == (\d+)", (ROOT / "plasma" / "layout.pyx").read_text())
    assert written == {name: int(size) for name, size in asserted} | layout.SIZES


def test_the_version_of_the_layout() -> None:
    assert f"Layout version {layout.VERSION}." in FORMAT.read_text()


def test_the_transitions_of_states() -> None:
    allowed = {(start, end) for start, ends in lifecycle.TRANSITIONS.items() for end in ends}
    assert {(start, end) for start, end, *_ in rows("States")} == allowed


def test_the_crash_points() -> None:
    listed = section("Crash points").partition("\n- ")[2]
    assert tuple(CODE.findall(listed)) == testing.crash_points()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    places = [name for name in CODE.findall(text) if PLACE.fullmatch(name)]
    gone = [name for name in places if not (ROOT / name).exists()]
    gone += [
        name for name in LINK.findall(text) if "://" not in name and not (document.parent / name).exists()
    ]
    assert not gone, f"{relative(document)} names what isn't there: {gone}"


def test_every_document_is_reached_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {relative(path) for path in DOCUMENTS[1:]} <= linked
