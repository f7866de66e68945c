"""What files say and how long they are."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.tidy.tree import PACKAGES, ROOT, relative, source_files

#: Paths of one machine. Built from pieces, so that this file doesn't hold what it looks for.
MACHINE_PATHS = re.compile(
    "|".join(f"(?<![\\w.])/{folder}/[\\w.]" for folder in ("work", "root", "home", "Users"))
)
HOSTS = re.compile(
    "(files|index|test)[.]" + "python" + "hosted|" + "py" + "pi[.]org/simple|--(extra-)?index-" + "url"
)
UNFINISHED = re.compile(r"\b(" + "FIX" + "ME|" + "XX" + r"X)\b")

LINES_MAX = 500
#: Files that are longer, with what they have now: they may shrink, and grow no further.
LINES_ALLOWED: dict[str, int] = {
    # One state machine: an actor from its creation to its last restart, wherever its process is.
    "orchestrator/scheduling/actor_table.py": 565,
    # One state machine, too: who gets what is decided in one place.
    "orchestrator/scheduling/local_scheduler.py": 530,
}


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{relative(path)}:{number}: {line.strip()[:100]}"
        for path in source_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_knows_somebody_s_machine() -> None:
    assert not lines_with(MACHINE_PATHS)


def test_no_file_names_a_package_server() -> None:
    assert not lines_with(HOSTS)


def test_nothing_is_left_marked_as_unfinished() -> None:
    assert not lines_with(UNFINISHED)


def test_no_file_grows_beyond_a_sitting() -> None:
    """A file that passes the limit, or needs "and" to say what it does, wants to be two."""
    lengths = {
        relative(path): len(path.read_text().splitlines())
        for path in source_files(*PACKAGES, "tests", "benchmarks", "examples", "tools")
        if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".h")
    }
    grown = {path: n for path, n in lengths.items() if n > LINES_ALLOWED.get(path, LINES_MAX)}
    assert not grown, f"longer than {LINES_MAX} lines, or than they were: {grown}"
    shrunk = [
        path for path, allowed in LINES_ALLOWED.items() if lengths.get(path, 0) < min(allowed, LINES_MAX)
    ]
    assert not shrunk, f"no longer need their entry in LINES_ALLOWED: {shrunk}"


def test_every_python_file_postpones_its_annotations() -> None:
    without = [
        relative(path)
        for path in source_files(*PACKAGES, "tests", "benchmarks", "tools", suffixes=(".py",))
        if (text := path.read_text()).strip() and "from __future__ import annotations" not in text
        and re.search(r"^(def|class|import|from|\w+ ?[:=])", text, re.MULTILINE)
    ]  # fmt: skip
    assert not without


def test_both_packages_are_marked_as_typed() -> None:
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES)


def test_importing_stays_quiet_and_reads_nothing_heavy() -> None:
    """A worker is forked from a process with these imports; each of them is paid for by everyone."""
    heavy = ("grpc", "rich", "tqdm", "click", "asyncio", "pandas", "matplotlib")
    code = f"import sys, plasma, orchestrator; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
