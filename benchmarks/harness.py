"""What the benchmarks share: sides that take turns, medians, ratios, tables.

A *side* is one library under measurement. Every measurement of a side happens in a fresh process of the
interpreter that has that library (``.venv-peers`` for the peers), which prints one JSON line for each row.
Sides take turns, round after round, so that a machine that slows down slows all of them; a figure is the
median over the rounds.
"""

from __future__ import annotations

import argparse
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
from datetime import datetime, timezone
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


def memcpy_gb_s(size_bytes: int = 800_000_000, repeats: int = 5, threads: int = 1) -> float:
    """What threads copy between warm buffers, in GB/s: the measure of every ``put`` in the same run."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    source, target = np.ones(size_bytes, np.uint8), np.ones(size_bytes, np.uint8)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        copy_s = median_s(lambda: list(pool.map(lambda part: np.copyto(*part), parts)), repeats)
    return size_bytes / copy_s / 1e9


def futex_round_trips(window_s: float = 1.0) -> float:
    """How often a second two processes wake each other in turn: the measure of every call that is waited for.

    A semaphore's wait and post are a futex's wait and wake, with next to nothing around them.
    """
    import multiprocessing

    context = multiprocessing.get_context("fork")
    there, back = context.Semaphore(0), context.Semaphore(0)

    def answer() -> None:
        while True:
            there.acquire()
            back.release()

    other = context.Process(target=answer, daemon=True)
    other.start()

    def round_trip() -> None:
        there.release()
        back.acquire()

    try:
        return rate(round_trip, warmup_s=window_s / 2, window_s=window_s)
    finally:
        other.kill()
        other.join()


@dataclass
class Results:
    """``values[row][side]``: one figure for each round; ``units[row]``; what went wrong in ``failures``."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    #: the row, of our side, that says what the machine can do at best, by the row that it limits
    limits: dict[str, str] = field(default_factory=dict)

    def add(self, side: str, row: str, value: float, unit: str) -> None:
        self.values.setdefault(row, {}).setdefault(side, []).append(value)
        self.units[row] = unit

    def median(self, row: str, side: str) -> float | None:
        values = self.values.get(row, {}).get(side)
        return statistics.median(values) if values else None

    def spread(self, row: str, side: str) -> float | None:
        """Half the range of the rounds, as a part of the median; None for a single round."""
        values = self.values.get(row, {}).get(side, [])
        if len(values) < 2 or not statistics.median(values):
            return None
        return (max(values) - min(values)) / 2 / abs(statistics.median(values))

    def share_of_limit(self, row: str, side: str) -> float | None:
        """Which part of its limit a side reaches in a row."""
        reached, limit = self.median(row, side), self.median(self.limits.get(row, ""), OURS[0])
        return reached / limit if reached is not None and limit else None

    @property
    def sides(self) -> list[str]:
        """All that have a figure."""
        return list(dict.fromkeys(side for row in self.values.values() for side in row))


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


def ratio_of(ours: float | None, theirs: float | None, unit: str) -> float | None:
    """How many times better the first is; less is better when the unit is a time or an amount of memory."""
    if not ours or not theirs:
        return None
    return theirs / ours if unit in LESS_IS_BETTER else ours / theirs


def show_ratio(ours: float | None, theirs: float | None, unit: str) -> str:
    ratio = ratio_of(ours, theirs, unit)
    if ratio is None:
        return "–"
    return f"{ratio:.1f}×" if ratio < 100 else f"{ratio:.0f}×"


LESS_IS_BETTER = ("s", "ms", "µs", "ns", "MiB", "bytes", "processes", "ports", "% CPU", "%")


def show(results: Results, sides: Sequence[str], title: str, rows: Iterable[str] | None = None) -> str:
    """A table in Markdown: medians, the spread over the rounds, the first side's ratio to each other one."""
    first = sides[0]
    # Ratios are of our sides; among peers alone they say nothing.
    compared = [side for side in sides[1:] if side not in OURS] if first in OURS else []
    head = ["row", "unit", *sides, *(f"vs {side}" for side in compared)]
    head += ["of the limit"] if results.limits else []
    body = []
    for row in rows or results.values:
        if row not in results.values:
            continue
        unit = results.units[row]
        cells = [row, unit]
        for side in sides:
            spread = results.spread(row, side)
            around = "" if spread is None else f" ±{spread:.0%}"
            cells.append(show_number(results.median(row, side)) + around)
        ours = results.median(row, first)
        cells += [show_ratio(ours, results.median(row, side), unit) for side in compared]
        if results.limits:
            share = results.share_of_limit(row, first)
            cells.append("–" if share is None else f"{share:.0%}")
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
    """What the figures depend on. No names of hosts, no paths."""
    memory = Path("/proc/meminfo").read_text().split()[1]
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "load_before": LOAD_BEFORE,
    }


#: As this module is imported: later it is that of the benchmark itself.
LOAD_BEFORE = round(os.getloadavg()[0], 2)

#: The distribution whose version is that of a side.
DISTRIBUTIONS = {
    "orchestrator": "plasma-orchestrator",
    "plasma": "plasma-orchestrator",
    "dask": "distributed",
}


def version_of(side: str) -> str:
    """The version of a side's library; for what comes with Python that of Python."""
    python = interpreter(side)
    if side in STDLIB:
        return f"Python {platform.python_version()}"
    if python is None:
        return "unknown"
    name = DISTRIBUTIONS.get(side, side)
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def commit() -> str:
    """The commit that was measured, with a `+` if files differ from it."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=HERE.parent, capture_output=True, text=True
            ).stdout.strip()
        except OSError:
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no", "plasma", "orchestrator", "benchmarks")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def today() -> str:
    """The day of the run, in UTC; that of its beginning for all benchmarks of one `make bench`."""
    return os.environ.get(DATE_VARIABLE) or datetime.now(timezone.utc).date().isoformat()


DATE_VARIABLE = "BENCHMARKS_DATE"


def as_json(name: str, results: Results, title: str) -> dict[str, Any]:
    """All that is known of a run: medians, spreads, ratios and limits by row; the figures of each round."""
    sides = results.sides
    ours = next((side for side in sides if side in OURS), None)
    rows = []
    for row, by_side in results.values.items():
        unit = results.units[row]
        entry: dict[str, Any] = {
            "row": row,
            "unit": unit,
            "median": {side: results.median(row, side) for side in by_side},
            "spread": {side: results.spread(row, side) for side in by_side},
            "rounds": by_side,
        }
        if ours is not None:
            first = results.median(row, ours)
            found = {
                side: ratio_of(first, results.median(row, side), unit) for side in by_side if side not in OURS
            }
            entry["ratio"] = {side: ratio for side, ratio in found.items() if ratio is not None}
            share = results.share_of_limit(row, ours)
            if share is not None:
                entry["limit"], entry["of_the_limit"] = results.limits[row], share
        rows.append(entry)
    return {
        "benchmark": name,
        "title": title,
        "date": today(),
        "commit": commit(),
        "machine": machine(),
        "versions": {side: version_of(side) for side in sides},
        "rows": rows,
        "failures": results.failures,
    }


def save(name: str, results: Results, table: str, arguments: argparse.Namespace) -> Path:
    """Keep the table, and as JSON the figures of every round, under the day of the run; return where.

    A short or a partial run, on which no claim rests, goes to `results/working/`, which is not kept.
    """
    partial = any(getattr(arguments, option, False) for option in ("quick", "only", "without_ours"))
    folder = RESULTS / ("working" if partial else today())
    folder.mkdir(parents=True, exist_ok=True)
    title = table.partition("\n")[0].lstrip("# ")
    text = json.dumps(as_json(name, results, title), indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")
    (folder / f"{name}.md").write_text(table + "\n")
    return folder


def command_line(
    doc: str, *, quick: str, peers: Iterable[str] = (), rounds: int = 3, without_ours: bool = False
) -> argparse.ArgumentParser:
    """Return what all benchmarks understand; `run.py` passes `--vs` and `--quick` to each.

    Args:
        doc: the docstring of the program.
        quick: what `--quick` does.
        peers: whom it can measure beside us.
        rounds: how often each side takes its turn, unless told.
        without_ours: whether the peers can be measured alone.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    names = ", ".join(peers)
    parser.add_argument("--vs", default="", help=f"peers, separated by commas: {names or 'there are none'}")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each side takes its turn")
    parser.add_argument("--quick", action="store_true", help=quick)
    if without_ours:
        parser.add_argument("--without-ours", action="store_true", help="measure only the peers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def compare(script: str, name: str, title: str, ours: Iterable[str], arguments: argparse.Namespace) -> None:
    """Measure our sides beside the peers that ``--vs`` names; print the table, and keep it by its name."""
    peers = installed(peer for peer in arguments.vs.split(",") if peer)
    sides = [*(() if arguments.without_ours else ours), *peers]
    results = interleave(script, sides, arguments.rounds, ["--quick"] if arguments.quick else [])
    table = show(results, sides, f"{title}, median of {arguments.rounds} rounds")
    print(table)
    save(name, results, table, arguments)


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
