"""Sets a manuscript as book pages: titles, justified paragraphs, code, columns, several faces and sizes.

A page is first a plan (which word stands where), small enough to travel in a message. Its picture is made
where it is needed, by `TypesetPage.scan()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import manuscript
from .manuscript import Chapter, Paragraph
from .model import Span
from .scan import as_scanned

if TYPE_CHECKING:
    from .model import GreyImage

#: 143 x 213 mm, the size of a trade paperback, at 250 dots per inch.
PAGE_WIDTH, PAGE_HEIGHT = 1400, 2100
MARGIN_X, MARGIN_TOP, MARGIN_BOTTOM = 140, 190, 170
GUTTER = 60
TEXT_WIDTH, TEXT_BOTTOM = PAGE_WIDTH - 2 * MARGIN_X, PAGE_HEIGHT - MARGIN_BOTTOM
MARGIN_SIZE = 27
#: A line is justified unless its spaces would grow beyond this many times their natural width.
SPACE_STRETCH_MAX = 3.0

FACES = {
    "serif": ("font_source_serif_pro", "SourceSerifPro-Regular.otf"),
    "serif-italic": ("font_source_serif_pro", "SourceSerifPro-It.otf"),
    "serif-bold": ("font_source_serif_pro", "SourceSerifPro-Bold.otf"),
    "sans": ("font_source_sans_pro", "SourceSansPro-Regular.otf"),
    "sans-italic": ("font_source_sans_pro", "SourceSansPro-It.otf"),
    "sans-bold": ("font_source_sans_pro", "SourceSansPro-Bold.otf"),
}
EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}(\w[^*]*)\*{1,2}(?![\w*])")


@dataclass(frozen=True, slots=True)
class Style:
    """How one chapter looks. Sizes in pixels: 36 is 10.4 points at 250 dots per inch."""

    columns: int
    family: str
    size: int
    heading_family: str

    @property
    def column_width(self) -> int:
        return (TEXT_WIDTH - (self.columns - 1) * GUTTER) // self.columns


#: Chapters take turns.
STYLES = (
    Style(columns=1, family="serif", size=36, heading_family="serif"),
    Style(columns=2, family="serif", size=32, heading_family="sans"),
    Style(columns=1, family="sans", size=35, heading_family="sans"),
    Style(columns=2, family="sans", size=32, heading_family="serif"),
    Style(columns=1, family="serif", size=41, heading_family="sans"),
)


class PlacedWord(NamedTuple):
    """A word, the left end of its baseline, and the font."""

    x: int
    y: int
    text: str
    face: str
    size: int


class Line(NamedTuple):
    """A line before it has a place: words with their offsets from its left end, and the height it takes."""

    kind: str
    words: tuple[tuple[int, str, str], ...]
    size: int
    leading: int
    #: Pixels left free above it; not at the top of a column.
    space_above: int
    text: str


@dataclass(slots=True)
class TypesetPage:
    """The plan of one page. The picture follows from it and from `seed` alone."""

    number: int
    seed: int
    words: list[PlacedWord] = field(default_factory=list)
    known_text: list[Span] = field(default_factory=list)

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(self.known_text)

    def draw(self) -> GreyImage:
        """The clean page, as the printer meant it."""
        picture = Image.new("L", (PAGE_WIDTH, PAGE_HEIGHT), 255)
        pen = ImageDraw.Draw(picture)
        for x, y, text, face, size in self.words:
            pen.text((x, y), text, fill=0, font=font(face, size), anchor="ls")
        return np.asarray(picture)

    def scan(self) -> GreyImage:
        """The page as it comes out of the scanner: skewed, soft, grey, speckled."""
        return as_scanned(self.draw(), seed=self.seed)


@lru_cache(maxsize=64)
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    package, name = FACES[face]
    path = files(package) / "files" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=100_000)
def width_of(text: str, face: str, size: int) -> float:
    return font(face, size).getlength(text)


def typeset_book(page_count: int | None = None, *, seed: int = 1) -> list[TypesetPage]:
    """The first `page_count` pages of the language reference, or all, about 250. A seed fixes every pixel."""
    pages: list[TypesetPage] = []
    for index, chapter in enumerate(manuscript.chapters()):
        pages += typeset_chapter(chapter, STYLES[index % len(STYLES)], first_number=len(pages) + 1, seed=seed)
        if page_count is not None and len(pages) >= page_count:
            break
    return pages[:page_count]


def typeset_chapter(chapter: Chapter, style: Style, *, first_number: int, seed: int) -> list[TypesetPage]:
    """The chapter's pages, numbered from `first_number`; a fresh page and a title across it begin them."""
    press = Press(chapter.title, style, first_number, seed)
    for paragraph in chapter.paragraphs:
        if paragraph.kind != "title":
            press.set_paragraph(paragraph)
    press.number_page()
    return press.pages


class Press:
    """Fills the columns of one page after another."""

    def __init__(self, title: str, style: Style, first_number: int, seed: int) -> None:
        self.title, self.style = title, style
        self.first_number, self.seed = first_number, seed
        self.pages: list[TypesetPage] = []
        #: Left edges of the columns that are still free on this page.
        self.free_columns: list[int] = []
        self.left = self.column_top = self.y = 0
        self.turn_page()
        self.next_column()

    def set_paragraph(self, paragraph: Paragraph) -> None:
        """Sets the lines one below the other, in as many columns as it takes."""
        lines = paragraph_lines(paragraph, self.style)
        set_here: list[str] = []  # what of the paragraph stands in this column
        for index, line in enumerate(lines):
            space = line.space_above if self.y > self.column_top else 0
            if self.y + space + lines_kept_together(paragraph, lines, index) * line.leading > TEXT_BOTTOM:
                self.know(paragraph.kind, set_here)
                set_here = []
                self.next_column()
                space = 0
            self.place(line, self.left, self.y + space)
            self.y += space + line.leading
            set_here.append(line.text)
        self.know(paragraph.kind, set_here)

    def next_column(self) -> None:
        if not self.free_columns:
            self.number_page()
            self.turn_page()
        self.left = self.free_columns.pop(0)
        self.y = self.column_top

    def turn_page(self) -> None:
        """Begins a page: the first with the chapter's title, others with a running head."""
        style = self.style
        number = self.first_number + len(self.pages)
        self.pages.append(TypesetPage(number, seed=self.seed * 1_000_003 + number))
        self.column_top = MARGIN_TOP
        if len(self.pages) == 1:
            runs = [(self.title, f"{style.heading_family}-bold")]
            head, y = break_lines(runs, "title", 2 * style.size, TEXT_WIDTH, 0), MARGIN_TOP + 60
            self.column_top = y + sum(line.leading for line in head) + 50
        else:
            runs = [(self.title, f"{style.family}-italic")]
            head, y = break_lines(runs, "margin", MARGIN_SIZE, TEXT_WIDTH, 0)[:1], 90
        for line in head:
            self.place(line, MARGIN_X, y)
            y += line.leading
        self.know(head[0].kind, [line.text for line in head])
        step = style.column_width + GUTTER
        self.free_columns = [MARGIN_X + column * step for column in range(style.columns)]

    def number_page(self) -> None:
        page, face = self.pages[-1], self.style.family
        text = str(page.number)
        x = (PAGE_WIDTH - int(width_of(text, face, MARGIN_SIZE))) // 2
        page.words.append(PlacedWord(x, PAGE_HEIGHT - 85, text, face, MARGIN_SIZE))
        self.know("margin", [text])

    def know(self, kind: str, lines: list[str]) -> None:
        if lines:
            self.pages[-1].known_text.append(Span(kind, "\n".join(lines)))

    def place(self, line: Line, left: int, top: int) -> None:
        baseline = top + round(0.78 * line.leading)
        self.pages[-1].words += [
            PlacedWord(left + x, baseline, text, face, line.size) for x, text, face in line.words
        ]


def lines_kept_together(paragraph: Paragraph, lines: list[Line], index: int) -> int:
    """A heading keeps some text below it, and no first line of a paragraph stays behind alone."""
    if paragraph.kind == "heading":
        return 4
    return 2 if index == 0 and len(lines) > 1 else 1


def paragraph_lines(paragraph: Paragraph, style: Style) -> list[Line]:
    width, size = style.column_width, style.size
    if paragraph.kind == "heading":
        face = f"{style.heading_family}-bold"
        return break_lines([(paragraph.text, face)], "heading", round(1.25 * size), width, round(1.1 * size))
    if paragraph.kind == "code":
        return code_lines(paragraph.text, round(0.9 * size), width, round(0.55 * size))
    runs: list[tuple[str, str]] = []
    for index, part in enumerate(EMPHASIS.split(paragraph.text)):
        runs.append((part, f"{style.family}-italic" if index % 2 else style.family))
    return break_lines(runs, "body", size, width, round(0.55 * size), justified=True)


def break_lines(
    runs: list[tuple[str, str]],
    kind: str,
    size: int,
    width: int,
    space_above: int,
    *,
    justified: bool = False,
) -> list[Line]:
    """Fills lines of `width` pixels with the words of `runs`, each a text and its face. No hyphenation."""
    leading = round(size * (1.18 if kind in ("title", "heading") else 1.3))
    space = width_of(" ", runs[0][1], size)
    lines: list[Line] = []
    row: list[tuple[str, str, bool]] = []  # (text, face, a space before it)
    row_width = 0.0

    def flush(*, last: bool) -> None:
        nonlocal row, row_width
        gaps = sum(spaced for _, _, spaced in row[1:])
        stretched = space
        if justified and not last and gaps:
            stretched = space + (width - row_width) / gaps
            if stretched > SPACE_STRETCH_MAX * space:
                stretched = space
        words: list[tuple[int, str, str]] = []
        line_text = "".join(" " + text if spaced else text for text, _, spaced in row).lstrip()
        x = 0.0
        for index, (text, face, spaced) in enumerate(row):
            x += stretched if spaced and index else 0.0
            words.append((round(x), text, face))
            x += width_of(text, face, size)
        lines.append(Line(kind, tuple(words), size, leading, 0 if lines else space_above, line_text))
        row, row_width = [], 0.0

    for text, face, spaced in words_of(runs):
        word_width = width_of(text, face, size)
        if row and spaced and row_width + space + word_width > width:
            flush(last=False)
        row_width += word_width + (space if row and spaced else 0.0)
        row.append((text, face, spaced))
    if row:
        flush(last=True)
    return lines


def words_of(runs: list[tuple[str, str]]) -> Iterator[tuple[str, str, bool]]:
    """The words of all runs with their face, and whether a space parts them from the word before."""
    spaced = True
    for text, face in runs:
        for index, word in enumerate(text.split()):
            yield word, face, spaced if index == 0 and not text[0].isspace() else True
            spaced = True
        if text:
            spaced = text[-1].isspace()


def code_lines(text: str, size: int, width: int, space_above: int) -> list[Line]:
    """Code keeps its lines and its indentation; a line too long for the column continues below."""
    face, quad = "sans", size
    lines: list[Line] = []
    for source in text.split("\n"):
        indent = quad + (len(source) - len(source.lstrip())) * quad // 3
        indent = min(indent, width // 3)
        for index, line in enumerate(break_lines([(source, face)], "code", size, width - indent - quad, 0)):
            shift = indent + (quad if index else 0)
            words = tuple((x + shift, word, word_face) for x, word, word_face in line.words)
            lines.append(line._replace(words=words, space_above=0 if lines else space_above))
    return lines
