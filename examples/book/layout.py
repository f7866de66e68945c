"""Finds what to read on a scanned page: straightens it, then looks for columns and blocks of lines.

Works on the ink of the page at a quarter of its resolution. The paper between things shows as empty rows and
columns of ink: a *gutter* is an empty stretch of columns between two columns of text, a *gap* an empty
stretch of rows between lines.

1. `find_skew`: at the right angle the row projection is sharpest.
2. `bands`: full-width strips of the page between clear gaps.
3. `column_boxes`: bands that share a gutter belong to the same columns, which are read one after the other.
4. `blocks`: each column is cut at the gaps that are wider than its line spacing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .model import Box, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import GreyImage

    Ink = NDArray[np.bool_]

#: Layout looks at one pixel for each 4 x 4 of the scan: a sixteenth of the work, and single specks fade.
SCALE = 4
SKEW_MAX_DEGREES = 2.5
#: Ink is darker than this share of the paper around it.
INK_DARKNESS = 0.72
#: Side of the squares, in layout pixels, whose brightest tenth tells how bright the paper is there.
PAPER_TILE = 25
#: A row or column of this many pixels counts as empty with one dark pixel in it: dust is not text.
DUST_LENGTH = 400
#: Narrower empty column runs are spaces between words.
GUTTER_MIN = 9
#: A column is at least this share of the text's width. Tables have narrower ones, and are read line by line.
COLUMN_SHARE_MIN = 0.3
#: Columns stand side by side for at least this many lines; fewer are words with a wide space between.
COLUMN_LINES_MIN = 3
#: Paper left around a region: the engine wants some, and a full stop at the edge may have passed for dust.
PADDING = 14


def find_regions(scan: GreyImage) -> tuple[GreyImage, list[Region]]:
    """The straightened page and its blocks of text in reading order, in the straightened page's pixels."""
    page = straightened(scan, find_skew(ink_of(scan)))
    ink = without_specks(ink_of(page))
    height, width = page.shape
    regions: list[Region] = []
    for column in column_boxes(ink):
        for block in blocks(ink, column):
            rows = ink[block.top : block.bottom, block.left : block.right]
            box = Box(
                max(block.left * SCALE - PADDING, 0),
                max(block.top * SCALE - PADDING, 0),
                min(block.right * SCALE + PADDING, width),
                min(block.bottom * SCALE + PADDING, height),
            )
            regions.append(Region(box, len(row_runs(rows)), int(np.count_nonzero(rows))))
    return page, regions


def ink_of(page: GreyImage) -> Ink:
    """Which pixels of the page, reduced by SCALE, are ink: clearly darker than the paper around them."""
    small = reduced(page)
    height, width = small.shape
    rows, columns = -(-height // PAPER_TILE), -(-width // PAPER_TILE)
    padded = np.pad(small, ((0, rows * PAPER_TILE - height), (0, columns * PAPER_TILE - width)), mode="edge")
    tiles = padded.reshape(rows, PAPER_TILE, columns, PAPER_TILE).swapaxes(1, 2).reshape(rows, columns, -1)
    paper = np.partition(tiles, -tiles.shape[2] // 10, axis=2)[:, :, -tiles.shape[2] // 10]
    threshold = np.repeat(np.repeat(paper * INK_DARKNESS, PAPER_TILE, axis=0), PAPER_TILE, axis=1)
    return small < threshold[:height, :width]


def without_specks(ink: Ink) -> Ink:
    """The ink without lone dots: letters have strokes, and dust seldom fills two layout pixels."""
    height, width = ink.shape
    padded = np.pad(ink, 1).astype(np.int8)
    around = sum(padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3))
    return ink & (around > 1)


def reduced(page: GreyImage) -> NDArray[np.float32]:
    """The mean of each SCALE x SCALE square."""
    image = Image.fromarray(page).reduce(SCALE)
    return np.asarray(image, dtype=np.float32)


def find_skew(ink: Ink) -> float:
    """The angle by which the lines climb, in degrees counter-clockwise, within ±SKEW_MAX_DEGREES, to 0.05."""
    y, x = np.nonzero(ink)
    if len(y) == 0:
        return 0.0
    best, reach = 0.0, SKEW_MAX_DEGREES
    for step in (0.5, 0.1, 0.05):  # each look covers what lies between two steps of the one before
        angles = np.arange(best - reach, best + reach + step / 2, step)
        best = float(angles[np.argmax([sharpness(y, x, angle) for angle in angles])])
        reach = step
    return best


def sharpness(y: NDArray[np.intp], x: NDArray[np.intp], angle_degrees: float) -> float:
    """How much neighbouring rows differ in ink once the page is turned back by the angle."""
    rows = np.rint(y + x * np.tan(np.radians(angle_degrees))).astype(np.intp)
    return float(np.square(np.diff(np.bincount(rows - rows.min()))).sum())


def straightened(scan: GreyImage, skew_degrees: float) -> GreyImage:
    """The page turned by the angle; corners that come from outside get the paper's grey."""
    if abs(skew_degrees) < 0.05:
        return scan
    paper = int(np.percentile(scan[::16, ::16], 75))
    image = Image.fromarray(scan)
    return np.asarray(image.rotate(-skew_degrees, resample=Image.Resampling.BILINEAR, fillcolor=paper))


def column_boxes(ink: Ink) -> list[Box]:
    """The columns in reading order, in layout pixels. Text across the page is a column of its own."""
    text = text_box(ink)
    if text is None:
        return []
    strips = bands(ink, text)
    columns: list[Box] = []
    index = 0
    while index < len(strips):
        end, gutter = index + 1, gutter_of(ink, strips[index], text)
        if gutter is None:
            columns.append(strips[index])
            index = end
            continue
        box = strips[index]
        while end < len(strips):  # as long as one gutter runs through all of them
            joined = box._replace(bottom=strips[end].bottom)
            shared = gutter_of(ink, joined, text)
            if shared is None:
                break
            box, gutter, end = joined, shared, end + 1
        pair = [box._replace(right=gutter[0]), box._replace(left=gutter[1])]
        columns += pair if min(len(line_runs(ink, column)) for column in pair) >= COLUMN_LINES_MIN else [box]
        index = end
    return columns


def text_box(ink: Ink) -> Box | None:
    """The rectangle that holds all text, or None on an empty page. What lies in the outermost 2 % is the
    scanner's."""
    height, width = ink.shape
    edge_y, edge_x = height // 50, width // 50
    inner = ink[edge_y : height - edge_y, edge_x : width - edge_x]
    rows, columns = row_runs(inner), column_runs(inner)
    if not rows or not columns:
        return None
    return Box(columns[0][0] + edge_x, rows[0][0] + edge_y, columns[-1][1] + edge_x, rows[-1][1] + edge_y)


def bands(ink: Ink, box: Box) -> list[Box]:
    """The box cut at every gap that is as high as a line of its text."""
    rows = line_runs(ink, box)
    gap_min = max(int(np.median([bottom - top for top, bottom in rows])), 4)
    merged = [rows[0]]
    for top, bottom in rows[1:]:
        if top - merged[-1][1] < gap_min:
            merged[-1] = (merged[-1][0], bottom)
        else:
            merged.append((top, bottom))
    return [box._replace(top=box.top + top, bottom=box.top + bottom) for top, bottom in merged]


def gutter_of(ink: Ink, box: Box, text: Box) -> tuple[int, int] | None:
    """The widest empty column run with a column of text on either side, if there is one."""
    filled = column_runs(ink[box.top : box.bottom, box.left : box.right])
    narrowest = COLUMN_SHARE_MIN * text.width
    gaps = [
        (box.left + right, box.left + left)
        for (_, right), (left, _) in itertools.pairwise(filled)
        if left - right >= GUTTER_MIN and right >= narrowest and text.right - box.left - left >= narrowest
    ]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=None)


def blocks(ink: Ink, column: Box) -> list[Box]:
    """The column cut between paragraphs and around titles, each block as wide as its ink."""
    rows = line_runs(ink, column)
    if not rows:
        return []
    pitches = [below[0] - above[0] for above, below in itertools.pairwise(rows)]
    pitch = float(np.median(pitches)) if pitches else np.inf
    cut = [rows[0]]
    for above, below in itertools.pairwise(rows):
        # From middle to middle: a line without ascenders or descenders shifts that only by half as much.
        if (sum(below) - sum(above)) / 2 > 1.25 * pitch:
            cut.append(below)
        else:
            cut[-1] = (cut[-1][0], below[1])
    boxes: list[Box] = []
    for top, bottom in cut:
        filled = column_runs(ink[column.top + top : column.top + bottom, column.left : column.right])
        if filled:
            left, right = filled[0][0], filled[-1][1]
            boxes.append(Box(column.left + left, column.top + top, column.left + right, column.top + bottom))
    return boxes


def line_runs(ink: Ink, box: Box) -> list[tuple[int, int]]:
    """The box's lines of text, each as (top, bottom) from the box's top."""
    return row_runs(ink[box.top : box.bottom, box.left : box.right])


def row_runs(ink: Ink) -> list[tuple[int, int]]:
    """The stretches of rows that hold ink, each as (first, one past the last)."""
    return runs(np.count_nonzero(ink, axis=1) > ink.shape[1] // DUST_LENGTH)


def column_runs(ink: Ink) -> list[tuple[int, int]]:
    """The stretches of columns that hold ink, each as (first, one past the last)."""
    return runs(np.count_nonzero(ink, axis=0) > ink.shape[0] // DUST_LENGTH)


def runs(filled: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The stretches of True, each as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], filled, [False])).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
