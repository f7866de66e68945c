"""The benchmarks' own arithmetic: a ratio that points the wrong way would be believed."""

from __future__ import annotations

import sys
from pathlib import Path

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
