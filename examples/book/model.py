"""What the parts of the book reader hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: Grey levels of one page, 0 black to 255 white, shape (height, width).
    GreyImage = NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle in pixels; `right` and `bottom` lie just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def shifted(self, dx: int, dy: int) -> Box:
        return Box(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)


class Span(NamedTuple):
    """A stretch of known text; `kind` is "title", "heading", "body", "code" or "margin" (head, number)."""

    kind: str
    text: str


class BookPage(Protocol):
    """A page that can be asked for its picture. `spans`: the known text in reading order, if it is known."""

    @property
    def number(self) -> int: ...

    @property
    def spans(self) -> tuple[Span, ...]: ...

    def scan(self) -> GreyImage: ...


class Region(NamedTuple):
    """One block of text on a page."""

    box: Box
    lines: int
    #: Dark pixels at layout resolution: proportional to the letters, and so to the time it takes to read.
    ink: int


class Word(NamedTuple):
    """One recognised word: where, and how sure the engine is (0 to 100)."""

    text: str
    box: Box
    confidence: float


class Passage(NamedTuple):
    """What was read in one region."""

    text: str
    words: list[Word]


@dataclass(slots=True)
class PageText:
    """One page, read."""

    number: int
    regions: list[Region]
    passages: list[Passage]
    #: The straightened picture, or a reference to it where it is still in the store.
    image: object = field(repr=False)
    #: Bytes of pictures that were handed to this page's readers in memory they share, instead of in a copy.
    shared_bytes: int = 0

    @property
    def text(self) -> str:
        return "\n\n".join(passage.text for passage in self.passages if passage.text)

    @property
    def word_count(self) -> int:
        return sum(len(passage.words) for passage in self.passages)
