"""What does one call cost, in bytecodes and in instructions? No clock, so it is the same on a busy machine.

    python benchmarks/path_counts.py                  # beside what is recorded for this version of Python
    python benchmarks/path_counts.py --record         # record it (make record-counts)
    python benchmarks/path_counts.py --profile        # by function, on both sides

The suite (`tests/benchmarks/test_path_counts.py`) fails when a path has become longer than recorded in
`path_counts.json`; see `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from counters import Instructions
from path_operations import LINES, YARDSTICK, Figures, Measured, count_all, is_debug_build

RECORDED = Path(__file__).with_name("path_counts.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

#: What a figure may exceed the recorded one by. Bytecodes are exact but for one or two, and the shortest line
#: is five of some hundred. Instructions depend on how Python was compiled: two builds of one version are
#: within 8 % after scaling, and two runs of one build within 6 %.
TOLERANCE = {"bytecodes": 0.005, "instructions": 0.10}
#: A path that has become so much shorter is to be recorded anew: else it could grow back unnoticed.
GAIN = {"bytecodes": 0.10, "instructions": 0.25}
#: Processes that have to say that something is not as recorded; and whose median is recorded.
ATTEMPTS = 3
#: What a line of a profile is at least, as a part of the whole.
SHOWN_FROM = 0.01
RENEW = "Where that is meant: `make record-counts`, and commit what it has written."


def recorded() -> dict[str, dict[str, Figures]]:
    """What is recorded: by version of Python, kind, operation."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def scaled(figures: Figures, to: Figures) -> Figures:
    """Instructions as the Python with which the others were recorded would have taken them.

    What plasma does by itself is compiled code, the same under every Python.
    """
    factor = to[YARDSTICK] / figures[YARDSTICK] if YARDSTICK in figures and YARDSTICK in to else 1.0
    return {
        name: figure if name.startswith(("store:", "channel:")) else figure * factor
        for name, figure in figures.items()
    }


def compare(kind: str, figures: Figures, known: Figures) -> list[tuple[str, str]]:
    """What is not as recorded: (operation, a sentence)."""
    found = []
    for name, figure in scaled(figures, known).items():
        before = known.get(name)
        if before is None:
            found.append((name, f"{name}: no {kind} recorded"))
            continue
        beside = f"{name}: {figure:.0f} {kind}, and {before:.0f} are recorded"
        if figure > before * (1 + TOLERANCE[kind]):
            found.append((name, f"{beside}: the path is longer"))
        elif figure < before * (1 - GAIN[kind]):
            found.append((name, f"{beside}: shorter, so record the gain"))
    found += [(name, f"{name}: recorded, and not counted") for name in known if name not in figures]
    return found


def count_apart(kinds: Sequence[str], longer: Sequence[str] = ()) -> dict[str, Figures]:
    """Count in a process of its own: with the same hashes as any other, and with other addresses."""
    command = [sys.executable, __file__, "--child", ",".join(kinds), "--longer", ",".join(longer)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    return json.loads(done.stdout)


def check(kinds: Sequence[str], longer: Sequence[str] = ()) -> list[str]:
    """What is not as recorded.

    Only what three processes say in turn: in one of some dozen, addresses collide in a cache of the
    interpreter's, and a short operation takes a quarter more.
    """
    known = recorded().get(VERSION)
    if known is None:
        return [f"nothing is recorded for Python {VERSION}"]
    found: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        problems: dict[str, str] = {}
        for kind, figures in count_apart(kinds, longer).items():
            problems |= {f"{kind} {name}": text for name, text in compare(kind, figures, known[kind])}
        found = {key: text for key, text in problems.items() if attempt == 0 or key in found}
        if not found:
            break
        kinds = [kind for kind in kinds if any(key.startswith(kind) for key in found)]
    return list(found.values())


def median_of_processes(kinds: Sequence[str]) -> dict[str, Figures]:
    """The figures to record."""
    runs = [count_apart(kinds) for _ in range(ATTEMPTS)]
    return {
        kind: {name: statistics.median(run[kind][name] for run in runs) for name in runs[0][kind]}
        for kind in kinds
    }


def show(found: dict[str, Figures], known: dict[str, Figures]) -> str:
    lines = [f"{'operation':36}" + "".join(f"{kind:>15}{'recorded':>10}{'':8}" for kind in found)]
    for name in next(iter(found.values())) | list(found.values())[-1]:
        line = f"{name:36}"
        for kind, figures in found.items():
            before = known.get(kind, {})
            figure = (scaled(figures, before) if before else figures).get(name)
            there = before.get(name)
            change = f"{figure / there - 1:+.1%}" if figure and there else ""
            line += f"{'–' if figure is None else format(figure, '.0f'):>15}"
            line += f"{'–' if there is None else format(there, '.0f'):>10}{change:>8}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def show_profile(measured: Measured, unit: str) -> str:
    """By operation, where the work itself is done: by file or library, and by function; in Markdown."""
    text = []
    for name, places in measured.places.items():
        groups: Counter[str] = Counter()
        for place, number in places.items():
            groups[place.partition(": ")[0]] += number
        for heading, found in ((name, groups), (f"{name}, by function", places)):
            total = sum(found.values())
            text += [f"### {heading}", "", f"| {unit} | share | where |", "|---:|---:|---|"]
            for place, number in found.most_common():
                if number >= SHOWN_FROM * total:
                    share = number / total
                    text.append(f"| {number:.0f} | {share:.0%} | `{place}` |")
            text.append("")
    return "\n".join(text)


def record(found: dict[str, Figures]) -> None:
    """Write the figures down, for this version of Python."""
    known = recorded()
    kinds = known.setdefault(VERSION, {})
    for kind, figures in found.items():
        kinds[kind] = {
            name: int(figure) if figure == int(figure) else figure for name, figure in figures.items()
        }
    ordered = dict(sorted(known.items(), key=lambda item: tuple(map(int, item[0].split(".")))))
    RECORDED.write_text(json.dumps(ordered, indent=1) + "\n")


def kinds_here() -> list[str]:
    """Which kinds say something here. The debug build of plasma is another program."""
    countable = Instructions.available() and not is_debug_build()
    return ["bytecodes", *(["instructions"] if countable else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=("bytecodes", "instructions"), help="only this kind")
    parser.add_argument("--record", action="store_true", help="record the figures for this version of Python")
    parser.add_argument("--profile", action="store_true", help="by function, on both sides")
    parser.add_argument(
        "--check", action="store_true", help="say what is not as recorded, and fail if anything"
    )
    parser.add_argument("--longer", default="", help="with a line more on these paths: " + ",".join(LINES))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    longer = arguments.longer.split(",") if arguments.longer else []
    if arguments.child:
        counted = count_all(arguments.child.split(","), longer)
        print(json.dumps({kind: measured.figures for kind, measured in counted.items()}))
        return 0
    kinds = [kind for kind in kinds_here() if arguments.kind in (None, kind)]
    if arguments.check:
        problems = check(kinds, longer)
        print("\n".join([*problems, *([RENEW] if problems else [])]))
        return bool(problems)
    if arguments.profile:
        for kind in kinds:
            (measured,) = count_all(["places" if kind == "instructions" else kind]).values()
            print(f"## {kind}\n\n{show_profile(measured, kind)}")
        return 0
    figures = median_of_processes(kinds) if arguments.record else count_apart(kinds, longer)
    print(show(figures, recorded().get(VERSION, {})))
    if arguments.record:
        record(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
