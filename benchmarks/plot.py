"""Draws one picture of results: how many times as fast as each peer, row by row.

    python benchmarks/plot.py                                   # the newest day in benchmarks/results/
    python benchmarks/plot.py --results FOLDER --output FILE

Needs matplotlib, which the environment of the peers has (`make plot`).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "docs" / "images" / "benchmarks.png"
RAY = "ray"

#: What we want to reach beside Ray: in every row of `ray microbenchmark`, and more in some.
TARGET = 10.0
TARGETS = {
    "single client tasks sync": 25.0,
    "single client tasks async": 30.0,
    "1:1 actor calls sync": 20.0,
    "1:1 actor calls async": 15.0,
    "init + first task": 25.0,
    "shutdown": 10.0,
    "10 000 tasks queued at once": 20.0,
    "10 000 arguments to one task": 10.0,
    "3 000 results of one task": 10.0,
    "get of 10 000 small arrays": 10.0,
    "100 actors made, called once, killed": 10.0,
    "actor calls sync, all cores busy: p99": 10.0,
    "remote actor calls sync": 5.0,
    "remote actor calls async": 5.0,
    "trusted network: direct": 2.0,
    "TLS: gRPC chunks": 1.0,
    "in the clear: gRPC chunks": 0.8,
}
#: And beside the best of the pools of processes.
TARGETS_POOLS = {
    "single client tasks async": 2.0,
    "+ map of a small function": 2.0,
    "map of a small function over 1 000 000 numbers": 2.0,
}

#: Of each benchmark the rows to draw; None: all that have a peer and are no limit of others.
DRAWN: dict[str, tuple[str, ...] | None] = {
    "microbenchmark": None,
    "startup": ("init + first task", "shutdown", "idle PSS, all processes"),
    "task_growth": None,
    "actor_growth": None,
    "latency": None,
    "remote_calls": None,
    "transfer": None,
}
HEADINGS = {
    "microbenchmark": "calls, gets and puts",
    "startup": "a session",
    "task_growth": "many tasks",
    "actor_growth": "many actors",
    "latency": "time of a call",
    "remote_calls": "calls to another node",
    "transfer": "from node to node",
}
#: Marker and colour of each peer; the colours differ in lightness too.
LOOKS = {
    RAY: ("o", "#1f5fa8"),
    "multiprocessing": ("^", "#e08a00"),
    "concurrent": ("s", "#3f9b57"),
    "loky": ("D", "#b05fc0"),
    "joblib": ("P", "#a0522d"),
    "dask": ("X", "#d6455f"),
}

WIDTH_IN, ROW_IN, DPI = 8.6, 0.255, 160
FONT_POINTS = 9.5


@dataclass
class Line:
    """A row of the picture."""

    label: str
    #: times as fast, or as small, as each peer
    ratios: dict[str, float]
    target: float | None = None
    target_pools: float | None = None
    #: said at the end of the line
    note: str = ""


@dataclass
class Picture:
    """What is drawn: lines under headings, and what is said about the run."""

    groups: dict[str, list[Line]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    about: str = ""

    @property
    def peers(self) -> list[str]:
        there = {peer for lines in self.groups.values() for line in lines for peer in line.ratios}
        return [peer for peer in LOOKS if peer in there]


def newest(results: Path) -> Path:
    """The folder of the last day that has results.

    Raises:
        SystemExit: there is none.
    """
    days = sorted(path for path in results.glob("[0-9]*-*-*") if path.is_dir())
    if not days:
        raise SystemExit(f"no results in {results}: `make bench` makes them")
    return days[-1]


def read(folder: Path) -> Picture:
    """What the results of a day say."""
    picture = Picture()
    for name, chosen in DRAWN.items():
        path = folder / f"{name}.json"
        if path.exists():
            data = json.loads(path.read_text())
            picture.versions |= data["versions"]
            picture.about = picture.about or about(data)
            lines = lines_of(data, chosen)
            if lines:
                picture.groups[HEADINGS[name]] = lines
    return picture


def about(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return (
        f"{data['date']}, commit {data['commit']}; {machine['cpus']} cores of {machine['cpu']}, "
        f"Linux {machine['kernel'].partition('-')[0]}, Python {machine['python']}"
    )


def lines_of(data: dict[str, Any], chosen: tuple[str, ...] | None) -> list[Line]:
    limits = {row.get("limit") for row in data["rows"]}
    rows = {row["row"]: row for row in data["rows"]}
    found = []
    for name in chosen or rows:
        row = rows.get(name)
        if row is None or name in limits:
            continue
        ratios = {peer: ratio for peer, ratio in row.get("ratio", {}).items() if peer in LOOKS}
        if not ratios:
            continue
        usual = TARGET if data["benchmark"] == "microbenchmark" and not name.startswith("+") else None
        copied = "memcpy" in row.get("limit", "")
        found.append(
            Line(
                name.removeprefix("+ ").replace(" (Plasma Store)", ""),
                ratios,
                # Large puts are held against what the machine can copy instead.
                None if copied else TARGETS.get(name, usual),
                TARGETS_POOLS.get(name),
                f"{row['of_the_limit']:.0%} of memcpy" if copied else "",
            )
        )
    return found


def show_times(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×"


def draw(picture: Picture, output: Path) -> None:
    """Write the picture as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    pyplot.rcParams.update({"font.size": FONT_POINTS, "font.family": "DejaVu Sans"})
    count = sum(len(lines) + 1 for lines in picture.groups.values())
    figure, axes = pyplot.subplots(figsize=(WIDTH_IN, ROW_IN * count + 1.75), dpi=DPI, layout="constrained")
    every = [ratio for lines in picture.groups.values() for line in lines for ratio in line.ratios.values()]
    low, high = min(0.8, 0.8 * min(every)), 1.3 * max(30.0, *every)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.axvspan(low, 1.0, color="#f3e3e3", zorder=0)
    axes.axvline(1.0, color="#555555", linewidth=1.0, zorder=1)

    at, ticks, labels = 0, [], []
    for heading, lines in picture.groups.items():
        ticks.append(at)
        labels.append(heading)
        at += 1
        for line in lines:
            ticks.append(at)
            labels.append(line.label)
            draw_line(axes, line, at)
            at += 1
    axes.set_ylim(at - 0.4, -0.6)
    axes.set_yticks(ticks, labels)
    for label in axes.get_yticklabels():
        if label.get_text() in picture.groups:
            label.set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.grid(axis="x", which="major", color="#dddddd", zorder=0)
    axes.xaxis.tick_top()
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)

    handles = [
        Line2D([], [], linestyle="", marker=LOOKS[peer][0], color=LOOKS[peer][1], label=named(peer, picture))
        for peer in picture.peers
    ]
    for colour, label in (("black", "target beside Ray"), ("#888888", "… the best pool")):
        handles.append(
            Line2D(
                [], [], linestyle="", marker="|", color=colour, markersize=11, markeredgewidth=2, label=label
            )
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "How many times as fast (or as small) as others, measured in turn",
        fontsize=FONT_POINTS + 2.5,
        fontweight="bold",
    )
    axes.text(1.015, -0.0, "beside Ray", transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
    axes.set_title(picture.about, fontsize=FONT_POINTS - 1, color="#444444", pad=10)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Software": None})
    pyplot.close(figure)


def named(peer: str, picture: Picture) -> str:
    library = {RAY: "Ray", "concurrent": "ProcessPoolExecutor", "multiprocessing": "multiprocessing.Pool"}
    version = picture.versions.get(peer, "")
    name = library.get(peer, peer)
    return f"{name} {version}" if version[:1].isdigit() else name


def draw_line(axes: Any, line: Line, at: int) -> None:
    best = line.ratios.get(RAY)
    if best is not None:
        axes.hlines(at, 1.0, best, color=LOOKS[RAY][1], linewidth=5.5, alpha=0.28, zorder=1)
    for target, colour in ((line.target, "black"), (line.target_pools, "#888888")):
        if target is not None:
            axes.vlines(target, at - 0.38, at + 0.38, color=colour, linewidth=1.8, zorder=4)
    for peer, ratio in line.ratios.items():
        marker, colour = LOOKS[peer]
        axes.plot(ratio, at, marker, color=colour, markersize=6, zorder=3, markeredgecolor="white")
    # In a column of its own: beside the marker it would lie on a target.
    text = "  ".join(part for part in (show_times(best) if best is not None else "", line.note) if part)
    axes.text(1.015, at, text, transform=axes.get_yaxis_transform(), va="center", fontsize=FONT_POINTS - 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, help="the folder of a day; the newest unless given")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    folder = arguments.results or newest(HERE / "results")
    picture = read(folder)
    if not picture.groups:
        raise SystemExit(f"nothing in {folder} is beside a peer")
    draw(picture, arguments.output)
    print(f"{folder.name}: {sum(map(len, picture.groups.values()))} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
