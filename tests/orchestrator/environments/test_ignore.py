"""What is left out of a copied directory, as git would leave it out."""

from __future__ import annotations

import pytest

from orchestrator.environments.ignore import Ignore


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        (["*.log"], ["a.log", "x/y.log"], ["a.logs", "log"]),
        (["/build"], ["build"], ["x/build"]),
        (["build/"], ["build/", "x/build/"], ["build"]),
        (["a/b"], ["a/b"], ["x/a/b"]),
        (["**/cache"], ["cache", "x/y/cache"], ["cached"]),
        (["data/**"], ["data/x", "data/x/y"], ["data/", "x/data/y"]),
        (["a/**/b"], ["a/b", "a/x/y/b"], ["b"]),
        (["?.txt"], ["a.txt"], ["ab.txt"]),
        (["[a-c].txt", "[!x]y"], ["b.txt", "ay"], ["d.txt", "xy"]),
        (["*.txt", "!keep.txt"], ["a.txt"], ["keep.txt", "x/keep.txt"]),
        (["# no pattern", "", r"\#file", r"\!file"], ["#file", "!file"], ["# no pattern"]),
        (["a.b"], ["a.b"], ["axb"]),
    ],
)
def test_patterns(patterns, ignored, kept):
    ignore = Ignore(patterns)
    for paths, expected in ((ignored, True), (kept, False)):
        for path in paths:
            assert ignore.matches(path.rstrip("/"), path.endswith("/")) is expected, path


def test_patterns_of_a_directory_hold_below_it():
    ignore = Ignore([])
    ignore.add(["*.log", "/top"], base="x/y")
    assert ignore.matches("x/y/a.log", False) and ignore.matches("x/y/z/a.log", False)
    assert ignore.matches("x/y/top", True) and not ignore.matches("x/y/z/top", True)
    assert not ignore.matches("a.log", False)


def test_defaults():
    ignore = Ignore()
    assert all(ignore.matches(path, True) for path in (".git", "x/__pycache__", ".venv", "venv"))
    assert not ignore.matches(".gitignore", False)
