"""No path of a call is longer than recorded: counted, not timed, so a slower path fails on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def path_counts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module; like the other benchmarks it imports its neighbours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import path_counts

    return path_counts


def test_no_path_is_longer_than_recorded() -> None:
    command = [sys.executable, str(BENCHMARKS / "path_counts.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_line_more_on_a_path_is_noticed(path_counts: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    figures = path_counts.count_apart(["bytecodes"], longer=["submit", "get", "put", "execute"])
    known = path_counts.recorded()[path_counts.VERSION]
    noticed = [told for _, told in path_counts.compare("bytecodes", figures["bytecodes"], known["bytecodes"])]
    for operation in ("task: submit", "task: get", "task: execute and reply", "put of a small value"):
        (told,) = [told for told in noticed if told.startswith(f"{operation}: ")]
        assert told.endswith("the path is longer")
    assert not [told for told in noticed if told.startswith("actor call: submit")]


def test_every_supported_python_has_its_figures(path_counts: ModuleType) -> None:
    known = path_counts.recorded()
    assert list(known) == ["3.10", "3.11", "3.12", "3.13"]
    assert all(list(kinds) == ["bytecodes", "instructions"] for kinds in known.values())


KNOWN = {"yardstick": 1000.0, "task: get": 500.0, "store: get": 200.0}


def problems(path_counts: ModuleType, **changes: float) -> list[str]:
    figures = KNOWN | {name.replace("__", ": "): figure for name, figure in changes.items()}
    return [name for name, _ in path_counts.compare("instructions", figures, KNOWN)]


def test_what_is_as_recorded_is_no_problem(path_counts: ModuleType) -> None:
    assert problems(path_counts) == []
    assert problems(path_counts, task__get=520.0, store__get=195.0) == []


def test_compiled_code_that_takes_longer_is_noticed(path_counts: ModuleType) -> None:
    assert problems(path_counts, store__get=225.0) == ["store: get"]


def test_a_gain_is_to_be_recorded(path_counts: ModuleType) -> None:
    (told,) = path_counts.compare("instructions", KNOWN | {"task: get": 300.0}, KNOWN)
    assert "record the gain" in told[1]


def test_another_build_of_python_is_no_problem(path_counts: ModuleType) -> None:
    """One that takes half the instructions for everything takes half of them for the yardstick too."""
    assert problems(path_counts, yardstick=500.0, task__get=250.0) == []
    assert problems(path_counts, yardstick=500.0, task__get=500.0) == ["task: get"]


def test_an_operation_that_is_counted_no_more_is_a_problem(path_counts: ModuleType) -> None:
    (told,) = path_counts.compare("bytecodes", {}, {"task: get": 1.0})
    assert told == ("task: get", "task: get: recorded, and not counted")
