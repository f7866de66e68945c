"""Shows and writes what came of it: progress, the table at the end, the text, a page with its boxes drawn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from .model import Box, PageText
from .score import Score
from .typeset import font

if TYPE_CHECKING:
    from .model import GreyImage

#: Without a terminal, progress is a line at most this often.
LOG_INTERVAL_S = 5.0
#: Fill of the regions, by reading order.
REGION_COLOURS = ((66, 133, 244), (219, 68, 148), (15, 157, 138), (171, 71, 188), (244, 143, 0))
SURE, DOUBTFUL, UNSURE = (46, 160, 67), (227, 140, 0), (218, 30, 40)
INK_COLOUR = (40, 40, 48)


@dataclass(frozen=True, slots=True)
class Run:
    """One way through the book: how many pages, and how long from the first call to the last page in hand."""

    pages: int
    seconds: float

    @property
    def pages_per_s(self) -> float:
        return self.pages / self.seconds


class PagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} pages/s" if task.speed else "", style="cyan")


def with_progress(pages: Iterable[PageText], total: int, label: str, console: Console) -> Iterator[PageText]:
    """Passes the pages on and shows how many have come: a bar on a terminal, some lines elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            PagesPerSecond(),
        )
        with Progress(*columns, console=console) as bar:
            yield from bar.track(pages, total=total, description=label)
        return
    began = told = time.perf_counter()
    for count, page in enumerate(pages, start=1):
        yield page
        now = time.perf_counter()
        if now - told >= LOG_INTERVAL_S or count == total:
            console.print(f"{label}: {count}/{total} pages, {count / (now - began):.2f} pages/s")
            told = now


def results_table(
    parallel: Run | None, serial: Run | None, workers: int, score: Score, shared_bytes: int
) -> Table:
    """The figures; a row only for what was measured."""
    table = Table(title="The book, read", show_header=False, min_width=64)
    table.add_column(style="bold")
    table.add_column(justify="right")
    if parallel:
        table.add_row(
            f"pages/s, {workers} workers", f"{parallel.pages_per_s:.2f}  ({pages_in_time(parallel)})"
        )
    if serial:
        table.add_row("pages/s, one after another", f"{serial.pages_per_s:.2f}  ({pages_in_time(serial)})")
    if parallel and serial:
        table.add_row("speed-up", f"{parallel.pages_per_s / serial.pages_per_s:.2f} ×")
    if score.characters:
        table.add_row("character error rate, body text", f"{score.error_rate('body'):.2%}")
        table.add_row("character error rate, everything", f"{score.error_rate():.2%}")
        table.add_row("characters known", f"{score.characters.total():,}")
    else:
        table.add_row("character error rate", "unknown: nobody knows this book's text")
    if parallel:
        table.add_row("shared without copying", f"{shared_bytes / 1e6:,.0f} MB")
    return table


def pages_in_time(run: Run) -> str:
    return f"{run.pages} pages in {run.seconds:.1f} s"


def write_text(texts: Iterable[tuple[int, str]], path: Path) -> None:
    """All pages as UTF-8, each under a line with its number."""
    with path.open("w", encoding="utf-8") as file:
        for number, text in texts:
            file.write(f"——— {number} ———\n\n{text}\n\n")


def annotated(image: GreyImage, page: PageText) -> Image.Image:
    """The page with its regions tinted and numbered in reading order, its words boxed by confidence."""
    picture = Image.fromarray(image).convert("RGB")
    tint = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(tint)
    for index, region in enumerate(page.regions):
        colour = REGION_COLOURS[index % len(REGION_COLOURS)]
        pen.rounded_rectangle(
            outermost(region.box), radius=10, fill=(*colour, 22), outline=(*colour, 255), width=3
        )
    for word in (word for passage in page.passages for word in passage.words):
        colour = confidence_colour(word.confidence)
        pen.rectangle(word.box, outline=(*colour, 200), width=1 if colour == SURE else 3)
    label_font = font("sans-bold", 26)
    for index, region in enumerate(page.regions):
        colour = REGION_COLOURS[index % len(REGION_COLOURS)]
        x, y = region.box.left - 22, region.box.top + 18
        pen.ellipse((x - 19, y - 19, x + 19, y + 19), fill=(*colour, 255))
        pen.text((x, y), str(index + 1), fill=(255, 255, 255, 255), font=label_font, anchor="mm")
    picture.paste(tint, mask=tint.getchannel("A"))
    return with_legend(picture, page, label_font)


def with_legend(picture: Image.Image, page: PageText, label_font: ImageFont.FreeTypeFont) -> Image.Image:
    """The picture with a strip below that explains it."""
    height = 78
    whole = Image.new("RGB", (picture.width, picture.height + height), (255, 255, 255))
    whole.paste(picture, (0, 0))
    pen = ImageDraw.Draw(whole)
    middle = picture.height + height // 2
    heading = f"page {page.number}: {len(page.regions)} regions in reading order, {page.word_count} words"
    pen.text((40, middle), heading, fill=INK_COLOUR, font=label_font, anchor="lm")
    x = picture.width - 470
    for text, colour in (("sure", SURE), ("doubtful", DOUBTFUL), ("unsure", UNSURE)):
        pen.rectangle((x, middle - 13, x + 34, middle + 13), outline=colour, width=4)
        pen.text((x + 46, middle), text, fill=INK_COLOUR, font=label_font, anchor="lm")
        x += 46 + round(label_font.getlength(text)) + 34
    return whole


def outermost(box: Box) -> tuple[int, int, int, int]:
    """The box a little larger, so that its outline stays clear of the words'."""
    return box.left - 4, box.top - 4, box.right + 4, box.bottom + 4


def confidence_colour(confidence: float) -> tuple[int, int, int]:
    return SURE if confidence >= 85 else DOUBTFUL if confidence >= 60 else UNSURE
