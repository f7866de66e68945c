"""What the picture of the results shows. The drawing itself needs matplotlib, which the suite does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, plot
from benchmarks.harness import Results


def write(folder: Path, name: str, results: Results) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(harness.as_json(name, results, "title")))


def results_of(rows: dict[str, dict[str, float]], **options: Any) -> Results:
    results = Results(**options)
    for row, by_side in rows.items():
        for side, value in by_side.items():
            results.add(side, row, value, "/s")
    return results


def test_rows_are_shown_beside_their_peers_with_their_targets(tmp_path: Path) -> None:
    rows = {
        "single client tasks async": {"orchestrator": 100.0, "ray": 2.0, "loky": 20.0},
        "single client wait 1k refs": {"orchestrator": 30.0, "ray": 2.0},
        "+ map of a small function": {"orchestrator": 30.0, "joblib": 10.0},
        "without a peer": {"orchestrator": 30.0},
    }
    write(tmp_path, "microbenchmark", results_of(rows))
    ((heading, (first, second, third)),) = plot.read(tmp_path).groups.items()
    assert heading == "calls, gets and puts"
    assert first == plot.Line("single client tasks async", {"ray": 50.0, "loky": 5.0}, 30.0, 2.0)
    assert second == plot.Line("single client wait 1k refs", {"ray": 15.0}, 10.0)
    assert third == plot.Line("map of a small function", {"joblib": 3.0}, None, 2.0)


def test_large_puts_are_shown_beside_what_the_machine_can_copy(tmp_path: Path) -> None:
    rows = {
        "put gigabytes": {"orchestrator": 9.0, "ray": 3.0},
        "+ warm memcpy": {"orchestrator": 10.0, "ray": 10.0},
    }
    results = results_of(rows, limits={"put gigabytes": "+ warm memcpy"})
    write(tmp_path, "microbenchmark", results)
    ((_, lines),) = plot.read(tmp_path).groups.items()
    assert lines == [plot.Line("put gigabytes", {"ray": 3.0}, None, None, "90% of memcpy")]


def test_the_newest_day_is_drawn(tmp_path: Path) -> None:
    for name in ("2029-12-31", "2030-01-02", "working"):
        (tmp_path / name).mkdir()
    assert plot.newest(tmp_path).name == "2030-01-02"


def test_without_results_it_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make bench"):
        plot.newest(tmp_path)


def test_every_target_is_of_a_row_that_there_is() -> None:
    """A row that is renamed takes its target along."""
    names = ["rows", *plot.DRAWN]
    rows = "".join((plot.HERE / f"{name}.py").read_text() for name in names)
    assert [row for row in (plot.TARGETS | plot.TARGETS_POOLS) if f'"{row}"' not in rows] == []
