"""Pages of a PDF file: the user's own book. Nobody knows their text, so they are read but not scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Span

if TYPE_CHECKING:
    import pypdfium2

    from .model import GreyImage

RESOLUTION_DPI = 250
POINTS_PER_INCH = 72


@dataclass(frozen=True, slots=True)
class PdfPage:
    """One page of a file, to be rendered by whoever calls `scan()`."""

    number: int
    path: str

    @property
    def spans(self) -> tuple[Span, ...]:
        return ()

    def scan(self) -> GreyImage:
        """The page in grey, at RESOLUTION_DPI."""
        with opened(self.path) as document:
            bitmap = document[self.number - 1].render(scale=RESOLUTION_DPI / POINTS_PER_INCH, grayscale=True)
            pixels = bitmap.to_numpy().copy()  # the bitmap's memory is pdfium's
        return pixels[:, :, 0] if pixels.ndim == 3 else pixels


def pdf_pages(path: str | Path, page_count: int | None = None) -> list[PdfPage]:
    """The first `page_count` pages (all of them by default).

    Raises FileNotFoundError, or ValueError if the file isn't a PDF that can be read.
    """
    absolute = Path(path).resolve(strict=True)
    with opened(str(absolute)) as document:
        total = len(document)
    return [PdfPage(number, str(absolute)) for number in range(1, min(total, page_count or total) + 1)]


@contextmanager
def opened(path: str) -> Iterator[pypdfium2.PdfDocument]:
    """The document, closed afterwards. To open one takes about a millisecond."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise ValueError(f"{path} is not a readable PDF file: {error}") from error
    with closing(document):
        yield document
