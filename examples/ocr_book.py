"""Turns a book into text: every page is scanned, laid out and read, on all cores at once.

    python examples/ocr_book.py                    # CPython's language reference, made a book on the spot
    python examples/ocr_book.py --pages 250        # the whole of it
    python examples/ocr_book.py --pdf my_book.pdf  # your own
    python examples/ocr_book.py --address auto     # on the machines of a cluster
    python examples/ocr_book.py --serial           # without parallelism

`read_serially` is the program one writes first. The part below it is the same program in parallel: its steps
with `@orchestrator.remote` above them, called by `.remote()`. Pictures stay where they are, in memory that
all processes share; what travels is references.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from book import layout, report
from book.model import BookPage, PageText, Passage, Region
from book.ocr import OcrEngine
from book.pdf import pdf_pages
from book.score import Score, score_page
from book.typeset import typeset_book
from rich.console import Console

import orchestrator

if TYPE_CHECKING:
    from book.model import GreyImage

DEFAULT_PAGES = 40
#: With more pages than this, the serial run for comparison reads this many, evenly spread.
SERIAL_PAGES_MAX = 40


def read_serially(pages: Sequence[BookPage]) -> Iterator[PageText]:
    """One page after another."""
    engine = OcrEngine()
    for page in pages:
        image, regions = layout.find_regions(page.scan())
        passages = [engine.read(image, region) for region in regions]
        yield PageText(page.number, regions, passages, image)


# ---- the same in parallel ----


@orchestrator.remote
def scan_page(page: BookPage) -> GreyImage:
    """A task. What it returns goes into the store, once; whoever needs it looks at it there."""
    return page.scan()


@orchestrator.remote(num_returns=2)
def find_regions(scan: GreyImage) -> tuple[GreyImage, list[Region]]:
    """A task with two results: two references, to be used apart."""
    return layout.find_regions(scan)


@orchestrator.remote
class Reader:
    """An actor: a process of its own that loads the model once and then reads whatever it is sent."""

    def __init__(self) -> None:
        self.engine = OcrEngine()

    def read(self, image: GreyImage, region: Region) -> tuple[Passage, int]:
        """What stands in a region of the page, and how many bytes of picture came without a copy."""
        return self.engine.read(image, region), bytes_shared(image)


@orchestrator.remote(num_cpus=0)
def read_book(pages: Sequence[BookPage], readers: list[Any]) -> Iterator[PageText]:
    """A generator task: yields the pages in order as they are finished, while later ones are under way.

    It only hands out work, so it asks for no CPU. A few pages are ahead of the readers and a few with them,
    so memory stays the same however long the book is.
    """
    ahead = 2 * len(readers)
    laid_out: deque[tuple[int, Any, Any]] = deque()
    being_read: deque[tuple[int, Any, list[Region], list[Any]]] = deque()
    given = [0] * len(readers)  # ink handed to each reader so far

    def hand_out(number: int, image: Any, regions_ref: Any) -> None:
        regions = orchestrator.get(regions_ref)
        passages = []
        for region in regions:
            least_busy = given.index(min(given))
            given[least_busy] += region.ink
            # What goes to the reader is the reference to the picture, not the picture.
            passages.append(readers[least_busy].read.remote(image, region))
        being_read.append((number, image, regions, passages))

    def collect(number: int, image: Any, regions: list[Region], passage_refs: list[Any]) -> PageText:
        passages, shared = zip(*orchestrator.get(passage_refs), strict=True) if passage_refs else ((), ())
        return PageText(number, regions, list(passages), image, sum(shared))

    for page in pages:
        laid_out.append((page.number, *find_regions.remote(scan_page.remote(page))))
        if len(laid_out) > ahead:
            hand_out(*laid_out.popleft())
        if len(being_read) > ahead:
            yield collect(*being_read.popleft())
    while laid_out:
        hand_out(*laid_out.popleft())
    while being_read:
        yield collect(*being_read.popleft())


def read_in_parallel(pages: Sequence[BookPage], workers: int) -> Iterator[PageText]:
    """One reader per core, and a stream of pages in order."""
    readers = [Reader.remote() for _ in range(workers)]
    for page_ref in read_book.remote(pages, readers):
        yield orchestrator.get(page_ref)


def bytes_shared(image: GreyImage) -> int:
    """The size of the picture if it lies in the store's memory, 0 if this process has a copy of its own."""
    owner: Any = image
    while isinstance(owner, np.ndarray):
        if owner.base is None:
            return 0
        owner = owner.base
    return image.nbytes


# ---- the program ----


@dataclass(slots=True)
class Outcome:
    """What is kept of a book that was read: its text, its score, and the one page to show."""

    run: report.Run
    texts: list[tuple[int, str]] = field(default_factory=list)
    score: Score = field(default_factory=Score)
    shared_bytes: int = 0
    shown: PageText | None = None


def collect_book(
    read: Iterator[PageText], pages: Sequence[BookPage], label: str, console: Console
) -> Outcome:
    """Takes the pages as they come, and times them. Only one page's picture is kept."""
    outcome = Outcome(report.Run(len(pages), 0.0))
    began = time.perf_counter()
    for page, source in zip(report.with_progress(read, len(pages), label, console), pages, strict=True):
        outcome.texts.append((page.number, page.text))
        outcome.score += score_page(source.spans, page.text)
        outcome.shared_bytes += page.shared_bytes
        if outcome.shown is None or page.word_count > outcome.shown.word_count:
            outcome.shown = page
    outcome.run = report.Run(len(pages), time.perf_counter() - began)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_options(arguments)
    console = Console()
    try:
        pages = (
            pdf_pages(options.pdf, options.pages)
            if options.pdf
            else typeset_book(options.pages or DEFAULT_PAGES)
        )
        options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    if options.serial:
        outcome = collect_book(read_serially(pages), pages, "one after another", console)
        parallel, serial, workers = None, outcome.run, 1
        write_outcome(outcome, options.out)
    else:
        workers = begin_session(options)
        try:
            label = f"{workers} workers"
            outcome = collect_book(read_in_parallel(pages, workers), pages, label, console)
            write_outcome(outcome, options.out)
        finally:
            orchestrator.shutdown()
        parallel, serial = outcome.run, None
        if not options.no_compare:
            sample = pages[:: -(-len(pages) // SERIAL_PAGES_MAX)]
            serial = collect_book(read_serially(sample), sample, "one after another", console).run
    console.print()
    console.print(report.results_table(parallel, serial, workers, outcome.score, outcome.shared_bytes))
    console.print(
        f"The text is in {options.out / 'book.txt'}, a page as it was seen in {options.out / 'page.png'}."
    )
    return 0


def begin_session(options: argparse.Namespace) -> int:
    """On this machine, or on a cluster, whose machines get the code along. Returns the number of readers."""
    if options.address is None:
        workers: int = options.workers or len(os.sched_getaffinity(0))
        orchestrator.init(num_cpus=workers)
        return workers
    orchestrator.init(
        address=options.address, runtime_env={"py_modules": [str(Path(__file__).parent / "book")]}
    )
    return options.workers or max(1, int(orchestrator.cluster_resources()["CPU"]))


def write_outcome(outcome: Outcome, directory: Path) -> None:
    """The text of the book, and the picture of one page with what was found on it."""
    report.write_text(outcome.texts, directory / "book.txt")
    page = outcome.shown
    if page is not None:
        image: Any = page.image
        if isinstance(image, orchestrator.ObjectRef):
            image = orchestrator.get(image)  # still where the layout task put it: this looks, it doesn't copy
        report.annotated(image, page).save(directory / "page.png")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Turns a book into text, on all cores.")
    parser.add_argument(
        "--pages",
        type=positive,
        metavar="N",
        help=f"read the first N pages (default: {DEFAULT_PAGES}, or the whole PDF)",
    )
    parser.add_argument(
        "--pdf", type=Path, metavar="FILE", help="read this book instead of the one made on the spot"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("out"), help="where the text goes (default: out)"
    )
    parser.add_argument("--serial", action="store_true", help="read page after page, without any parallelism")
    parser.add_argument(
        "--no-compare", action="store_true", help="skip the serial run that the speed-up is taken from"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="default: one per core",
    )
    parser.add_argument(
        "--address", help="of a cluster to read it on: 'auto', or as `init(address=...)` takes it"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
