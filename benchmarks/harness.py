"""What the benchmarks share: sides that take turns, medians, ratios, tables.

A *side* is one library under measurement. Every measurement of a side happens in a fresh process of the
interpreter that has that library (``.venv-peers`` for the peers), which prints one JSON line for each row.
Sides take turns, round after round, so that a machine that slows down slows all of them; a figure is the
median over the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"
#: Marks the lines of a child that are results; whatever else it or its library prints is not.
MARK = "@@row "
OURS = ("orchestrator", "plasma")
#: Peers that the interpreter brings along; they run in the same interpreter as our side.
STDLIB = ("multiprocessing", "concurrent", "pipe", "shared_memory", "memmap", "threads", "sendfile")
CHILD_TIMEOUT_S = 1800.0

#: Quiet a peer without changing how it works.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "PYTHONWARNINGS": "ignore",
}


def emit(row: str, value: float, unit: str) -> None:
    """In a child: report one figure of one row, in ``unit``."""
    print(MARK + json.dumps({"row": row, "value": value, "unit": unit}), flush=True)


def rate(
    fn: Callable[[], Any],
    multiplier: float = 1.0,
    warmup_s: float = 1.0,
    window_s: float = 1.0,
    windows: int = 3,
) -> float:
    """How often ``fn`` runs per second, times ``multiplier``: the median of some windows after a warm-up.

    The clock is read once in a tenth of a window, so that reading it costs a fast row nothing.
    """
    start = time.perf_counter()
    count = 0
    while count == 0 or time.perf_counter() - start < warmup_s:
        fn()
        count += 1
    step = max(1, int(count * window_s / max(warmup_s, 1e-9)) // 10)
    samples = []
    for _ in range(windows):
        count = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < window_s or count == 0:
            for _ in range(step):
                fn()
            count += step
        samples.append(multiplier * count / elapsed)
    return statistics.median(samples)


def median_s(fn: Callable[[], Any], repeats: int) -> float:
    """The median duration of one call, in seconds, after one call that isn't counted."""
    fn()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def memcpy_gb_s(size_bytes: int = 800_000_000, repeats: int = 5) -> float:
    """What one core copies between warm buffers, in GB/s: the measure of every ``put`` in the same run."""
    import numpy as np

    source, target = np.ones(size_bytes, np.uint8), np.ones(size_bytes, np.uint8)
    return size_bytes / median_s(lambda: np.copyto(target, source), repeats) / 1e9


@dataclass
class Results:
    """``values[row][side]``: one figure for each round; ``units[row]``; what went wrong in ``failures``."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, side: str, row: str, value: float, unit: str) -> None:
        self.values.setdefault(row, {}).setdefault(side, []).append(value)
        self.units[row] = unit

    def median(self, row: str, side: str) -> float | None:
        values = self.values.get(row, {}).get(side)
        return statistics.median(values) if values else None


def interpreter(side: str) -> str | None:
    """The Python that has this side's library, or None when it isn't installed."""
    if side in OURS or side in STDLIB:
        return sys.executable
    return str(PEERS_PYTHON) if PEERS_PYTHON.exists() else None


def run_child(script: Path, side: str, arguments: Sequence[str], results: Results) -> None:
    """One measurement of one side in a process of its own; its rows are added to ``results``."""
    python = interpreter(side)
    if python is None:
        results.failures.append(f"{side}: no peers' environment; `make bench-peers` makes it")
        return
    environment = {**os.environ, **ENVIRONMENT}
    if side not in OURS:
        environment.pop("PYTHONPATH", None)
    command = [python, str(script), "--child", side, *arguments]
    # A session of its own, so that a side that hangs can be ended with all that it started.
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=CHILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    for line in out.splitlines():
        # Other processes of the side may print into the same pipe, even before the mark.
        if (at := line.find(MARK)) >= 0:
            try:
                entry = json.loads(line[at + len(MARK) :])
            except ValueError:
                continue
            results.add(side, **entry)
    if child.returncode:
        last = [line for line in err.splitlines() if line.strip()][-3:]
        results.failures.append(f"{side}: exit code {child.returncode}: {' | '.join(last)[:600]}")


def interleave(script: str, sides: Iterable[str], rounds: int, arguments: Sequence[str] = ()) -> Results:
    """``rounds`` times each side in turn."""
    results = Results()
    sides = list(sides)
    for number in range(rounds):
        for side in sides:
            print(f"  round {number + 1}/{rounds}: {side} …", end="", file=sys.stderr, flush=True)
            start = time.perf_counter()
            run_child(Path(script), side, arguments, results)
            print(f" {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return results


def show_number(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def show_ratio(ours: float | None, theirs: float | None, unit: str) -> str:
    """How many times better the first is; less is better when the unit is a time or an amount of memory."""
    if not ours or not theirs:
        return "–"
    ratio = theirs / ours if unit in LESS_IS_BETTER else ours / theirs
    return f"{ratio:.1f}×" if ratio < 100 else f"{ratio:.0f}×"


LESS_IS_BETTER = ("s", "ms", "µs", "ns", "MiB", "bytes", "processes", "ports", "% CPU", "%")


def show(results: Results, sides: Sequence[str], title: str, rows: Iterable[str] | None = None) -> str:
    """A table in Markdown: medians, the spread over the rounds, the first side's ratio to each other one."""
    first = sides[0]
    # Ratios are of our sides; among peers alone they say nothing.
    compared = [side for side in sides[1:] if side not in OURS] if first in OURS else []
    head = ["row", "unit", *sides, *(f"vs {side}" for side in compared)]
    body = []
    for row in rows or results.values:
        if row not in results.values:
            continue
        unit = results.units[row]
        cells = [row, unit]
        for side in sides:
            values = results.values[row].get(side, [])
            cell = show_number(results.median(row, side))
            if len(values) > 1 and statistics.median(values):
                spread = (max(values) - min(values)) / 2 / abs(statistics.median(values))
                cell += f" ±{spread:.0%}"
            cells.append(cell)
        ours = results.median(row, first)
        cells += [show_ratio(ours, results.median(row, side), unit) for side in compared]
        body.append(cells)
    widths = [max(len(line[index]) for line in [head, *body]) for index in range(len(head))]

    def text(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join("-" * (width + 1) + (":" if index >= 2 else "-") for index, width in enumerate(widths))
        + "|"
    )
    lines = [f"### {title}", "", text(head), rule, *map(text, body), ""]
    lines += [f"! {failure}" for failure in results.failures]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def save(name: str, results: Results, table: str) -> None:
    """Keep the figures of every round beside the table, in ``benchmarks/results/``."""
    RESULTS.mkdir(exist_ok=True)
    data = {
        "machine": machine(),
        "units": results.units,
        "values": results.values,
        "failures": results.failures,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False))
    (RESULTS / f"{name}.md").write_text(table + "\n")


def installed(sides: Iterable[str]) -> list[str]:
    """Those of ``sides`` whose library can be imported by its interpreter; says which can't."""
    found = []
    for side in sides:
        python = interpreter(side)
        module = {"concurrent": "concurrent.futures", "dask": "distributed"}.get(side, side)
        command = [str(python), "-c", f"import {module}"]
        if side in STDLIB or (python and subprocess.run(command, capture_output=True).returncode == 0):
            found.append(side)
        else:
            print(f"  {side}: not installed, left out (make bench-peers)", file=sys.stderr)
    return found
