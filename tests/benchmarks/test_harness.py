"""The benchmarks' own arithmetic: a ratio that points the wrong way would be believed."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.harness import Results, interleave, rate, run_child, show, show_ratio


def test_more_calls_a_second_are_better() -> None:
    assert show_ratio(50_000, 1_000, "/s") == "50.0×"


@pytest.mark.parametrize("unit", ["s", "ms", "µs", "MiB"])
def test_less_time_and_less_memory_are_better(unit: str) -> None:
    assert show_ratio(2, 100, unit) == "50.0×"


@pytest.mark.parametrize(("ours", "theirs"), [(None, 1.0), (1.0, None), (0.0, 1.0)])
def test_without_both_figures_there_is_no_ratio(ours: float | None, theirs: float | None) -> None:
    assert show_ratio(ours, theirs, "/s") == "–"


def test_a_rate_counts_what_one_call_stands_for() -> None:
    calls = []
    value = rate(lambda: calls.append(1), multiplier=1000, warmup_s=0.0, window_s=0.0, windows=1)
    assert calls
    assert value > 0


def test_the_figure_is_the_median_over_the_rounds() -> None:
    results = Results()
    for value in (1.0, 100.0, 3.0):
        results.add("orchestrator", "row", value, "/s")
    assert results.median("row", "orchestrator") == 3.0
    assert results.median("row", "ray") is None


def test_only_our_sides_are_compared() -> None:
    results = Results()
    for side, value in (("orchestrator", 30.0), ("ray", 10.0)):
        results.add(side, "tasks", value, "/s")
    table = show(results, ["orchestrator", "ray"], "title")
    assert "vs ray" in table
    assert "3.0×" in table
    assert "vs" not in show(results, ["ray", "loky"], "title")


def of_two_sides() -> Results:
    results = Results(limits={"put": "memcpy"})
    for side, values in (("orchestrator", (30.0, 20.0)), ("ray", (10.0, 5.0))):
        for value in values:
            results.add(side, "put", value, "GB/s")
    results.add("orchestrator", "memcpy", 50.0, "GB/s")
    return results


def test_a_row_is_shown_as_a_part_of_its_limit() -> None:
    table = show(of_two_sides(), ["orchestrator", "ray"], "title")
    assert "of the limit" in table
    assert table.splitlines()[4].endswith(" 50% |")


def test_what_is_kept_has_ratios_limits_and_the_machine() -> None:
    kept = harness.as_json("name", of_two_sides(), "title")
    put = kept["rows"][0]
    assert put["median"] == {"orchestrator": 25.0, "ray": 7.5}
    assert put["ratio"] == {"ray": pytest.approx(25 / 7.5)}
    assert put["spread"]["orchestrator"] == pytest.approx(0.2)
    assert (put["limit"], put["of_the_limit"]) == ("memcpy", 0.5)
    assert put["rounds"]["ray"] == [10.0, 5.0]
    assert {"cpu", "cpus", "kernel", "python", "load_before"} <= set(kept["machine"])
    assert set(kept["versions"]) == {"orchestrator", "ray"}


def test_what_is_kept_knows_no_host_and_no_path() -> None:
    text = json.dumps(harness.as_json("name", of_two_sides(), "title"))
    assert platform.node() not in text
    assert str(harness.HERE.parent) not in text


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "2030-01-31"),
        ({"quick": True}, "working"),
        ({"only": "put"}, "working"),
        ({"only": ""}, "2030-01-31"),
    ],
)
def test_whole_runs_are_kept_by_date_and_others_are_not(
    options: dict[str, Any], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setenv(harness.DATE_VARIABLE, "2030-01-31")
    where = harness.save("name", of_two_sides(), "### title", argparse.Namespace(**options))
    assert where == tmp_path / folder
    assert sorted(path.name for path in where.iterdir()) == ["name.json", "name.md"]
    assert json.loads((where / "name.json").read_text())["date"] == "2030-01-31"


def test_processes_that_wake_each_other_are_counted() -> None:
    assert harness.futex_round_trips(window_s=0.01) > 0


def test_two_threads_copy_all_that_one_does() -> None:
    assert harness.memcpy_gb_s(size_bytes=1001, repeats=1, threads=2) > 0


def a_child(directory: Path, body: str) -> Path:
    script = directory / "child.py"
    script.write_text(body)
    return script


def test_rows_are_found_among_whatever_else_is_printed(tmp_path: Path) -> None:
    script = a_child(
        tmp_path,
        f'print(\'noise\' + {harness.MARK!r} + \'{{"row": "a", "value": 2.5, "unit": "/s"}}\')\n'
        f"print({harness.MARK!r} + 'not a row')\n",
    )
    results = Results()
    run_child(script, "threads", [], results)
    assert results.values == {"a": {"threads": [2.5]}}
    assert results.failures == []


def test_a_side_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    results = Results()
    run_child(a_child(tmp_path, "raise SystemExit('no such peer')"), "threads", [], results)
    (failure,) = results.failures
    assert "exit code 1" in failure
    assert "no such peer" in failure


def test_sides_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = a_child(tmp_path, "")
    interleave(str(script), ["threads", "pipe"], rounds=2)
    order = [line.split(": ")[1].split(" ")[0] for line in capsys.readouterr().err.splitlines()]
    assert order == ["threads", "pipe", "threads", "pipe"]
    assert sys.executable == harness.interpreter("threads")
