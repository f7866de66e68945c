"""Every example runs as a user would start it, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.cluster_utils import Cluster
from tests.examples.running import EXAMPLES, run


def test_quickstart(tmp_path: Path) -> None:
    shown = run(tmp_path, "quickstart.py").stdout.splitlines()
    assert "primes below 200000: 17984" in shown
    assert "primes below the count of primes below 1000: 39" in shown
    assert "the counter stands at 55" in shown
    assert "running sums: 1 3 6 10" in shown


def test_autoscaling(tmp_path: Path) -> None:
    shown = run(tmp_path, "autoscaling.py").stdout
    assert "6 tasks ran on" in shown
    assert shown.count("0 nodes beside the head's") == 3 and "2 nodes beside the head's" in shown


def test_shared_arrays(tmp_path: Path) -> None:
    shown = run(tmp_path, "shared_arrays.py").stdout
    assert shown.count("write: frame") == shown.count("read:  frame") == 8
    assert "its pixels are 7 to 7" in shown


def test_the_book_is_read_in_parallel_without_copies_and_nearly_without_errors(tmp_path: Path) -> None:
    shown = run(tmp_path, "ocr_book.py", "--pages", "4", "--workers", "2", "--no-compare").stdout
    assert "2 workers: 4/4 pages" in shown
    rate = float(row_of(shown, "character error rate, body text").rstrip("%"))
    assert 0.0 <= rate <= 3.0
    megabytes = int(row_of(shown, "shared without copying").removesuffix(" MB"))
    assert megabytes >= 4 * 2.94  # at least once per page; each region read in place adds a page
    text = (tmp_path / "out" / "book.txt").read_text(encoding="utf-8")
    titles = ["——— 1 ———", "assert", "——— 2 ———", "Assignment statements", "——— 3 ———", "——— 4 ———"]
    places = [text.find(title) for title in titles]
    assert places[0] >= 0
    assert places == sorted(places)
    with Image.open(tmp_path / "out" / "page.png") as picture:
        assert picture.size == (1400, 2178)


def test_serially_and_in_parallel_the_same_is_read(tmp_path: Path) -> None:
    run(tmp_path, "ocr_book.py", "--pages", "2", "--out", "serial", "--serial")
    run(tmp_path, "ocr_book.py", "--pages", "2", "--out", "parallel", "--no-compare")
    serial, parallel = (tmp_path / name / "book.txt" for name in ("serial", "parallel"))
    assert serial.read_text() == parallel.read_text()


def test_it_is_read_by_three_nodes(tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        shown = run(
            tmp_path, "ocr_book.py", "--pages", "4", "--no-compare", "--address", cluster.address
        ).stdout
    finally:
        cluster.shutdown()
    assert "3 workers: 4/4 pages" in shown
    assert 0.0 <= float(row_of(shown, "character error rate, body text").rstrip("%")) <= 3.0


def test_a_book_of_one_s_own_is_read_and_not_scored(tmp_path: Path) -> None:
    from book.typeset import typeset_book

    pictures = [Image.fromarray(page.draw()) for page in typeset_book(2)]
    pictures[0].save(tmp_path / "own.pdf", save_all=True, append_images=pictures[1:], resolution=250)
    shown = run(tmp_path, "ocr_book.py", "--pdf", "own.pdf").stdout
    assert "speed-up" in shown
    assert "nobody knows this book's text" in shown
    assert "Assignment statements" in (tmp_path / "out" / "book.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["--pdf", "missing.pdf"], ["--pages", "0"], ["--no-such-option"]])
def test_wrong_arguments_end_it_at_once_with_the_reason(tmp_path: Path, arguments: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "ocr_book.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 2
    assert "Traceback" not in finished.stdout + finished.stderr
    assert arguments[-1].split(".")[0] in finished.stdout + finished.stderr or "at least 1" in finished.stderr
    assert not list(tmp_path.iterdir())


def row_of(table: str, name: str) -> str:
    """The figure in the row that is called `name`."""
    return next(line for line in table.splitlines() if name in line).split("│")[2].strip()
