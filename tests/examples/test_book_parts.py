"""The parts of the book reader, each by itself: no process is started here."""

from __future__ import annotations

import pickle
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from book import layout, manuscript, report, scan
from book.model import Box, PageText, Passage, Region, Span, Word
from book.ocr import OcrEngine
from book.pdf import pdf_pages
from book.score import normalised, score_page
from book.typeset import PAGE_HEIGHT, PAGE_WIDTH, STYLES, TypesetPage, typeset_book, typeset_chapter
from PIL import Image
from rich.console import Console

if TYPE_CHECKING:
    from book.model import GreyImage


@pytest.fixture(scope="module")
def book() -> list[TypesetPage]:
    return typeset_book(6)


@pytest.fixture(scope="module")
def engine() -> OcrEngine:
    return OcrEngine()


# ---- the manuscript ----


def test_a_topic_becomes_titles_paragraphs_and_code() -> None:
    source = (
        'The "while" statement\n*********************\n\n'
        "It repeats as long as\nan *expression* is self-\ncontained:\n\n"
        "   while x:\n       x -= 1\n\n"
        "* an item\n\n"
        "Details\n=======\n\nThe end."
    )
    assert list(manuscript.parse(source)) == [
        ("title", 'The "while" statement'),
        ("body", "It repeats as long as an *expression* is self-contained:"),
        ("code", "while x:\n    x -= 1"),
        ("body", "– an item"),
        ("heading", "Details"),
        ("body", "The end."),
    ]


def test_tables_drawn_with_characters_are_left_out() -> None:
    assert list(manuscript.parse("Before.\n\n+---+---+\n| a | b |\n+---+---+\n\nAfter.")) == [
        ("body", "Before."),
        ("body", "After."),
    ]


def test_the_whole_book_has_the_length_of_a_book() -> None:
    pages = typeset_book()
    assert 200 <= len(pages) <= 400
    assert sum(len(span.text) for page in pages for span in page.spans) > 350_000


# ---- typesetting and scanning ----


def test_the_same_seed_gives_the_same_scans_and_another_seed_others(book: list[TypesetPage]) -> None:
    again, other = typeset_book(2, seed=1)[1], typeset_book(2, seed=2)[1]
    assert np.array_equal(book[1].scan(), again.scan())
    assert other.spans == again.spans
    assert not np.array_equal(other.scan(), again.scan())


def test_a_plan_travels_in_a_message_and_a_picture_would_not(book: list[TypesetPage]) -> None:
    page = book[2]
    plan = pickle.dumps(page)
    assert len(plan) < 30_000 < page.scan().nbytes
    assert np.array_equal(pickle.loads(plan).draw(), page.draw())


def test_no_word_is_lost_between_the_manuscript_and_the_pages() -> None:
    chapter = next(iter(manuscript.chapters()))
    for style in STYLES:
        pages = typeset_chapter(chapter, style, first_number=1, seed=1)
        spans = [span for page in pages for span in page.spans if span.kind != "margin"]
        set_words = " ".join(span.text for span in spans).split()
        source_words = " ".join(paragraph.text for paragraph in chapter.paragraphs).replace("*", "").split()
        assert set_words == source_words


def test_all_words_stand_on_the_paper_and_columns_are_apart(book: list[TypesetPage]) -> None:
    for page in book:
        image = page.draw()
        assert image.shape == (PAGE_HEIGHT, PAGE_WIDTH)
        assert image[:60].min() == image[-60:].min() == image[:, :100].min() == image[:, -60:].min() == 255


def test_a_scan_is_grey_and_noisy_but_dark_only_where_there_is_ink(book: list[TypesetPage]) -> None:
    scanned = book[0].scan()
    assert scanned.dtype == np.uint8
    assert scanned.std() > 10
    assert 190 < np.median(scanned) < 250
    blank = scan.as_scanned(np.full((600, 400), 255, np.uint8), seed=3)
    assert (blank < 120).mean() < 0.01


# ---- layout ----


def page_with(*boxes: tuple[int, int, int, int]) -> GreyImage:
    """A light page of 1400 x 2100 with bars for lines of text, 50 pixels apart, in each box."""
    page = np.full((2100, 1400), 240, np.uint8)
    for left, top, right, bottom in boxes:
        for line_top in range(top, bottom - 20, 50):
            page[line_top : line_top + 28, left:right] = 30
    return page


def test_one_column_with_two_paragraphs_is_two_regions_from_top_to_bottom() -> None:
    _, regions = layout.find_regions(page_with((150, 200, 1250, 500), (150, 540, 1250, 900)))
    assert [region.lines for region in regions] == [6, 7]
    assert regions[0].box.bottom < regions[1].box.top


def test_columns_are_read_one_after_the_other_below_a_title_across_both() -> None:
    title = (150, 200, 1200, 240)
    left_above, left_below = (150, 400, 670, 900), (150, 950, 670, 1800)
    right_above, right_below = (730, 400, 1250, 900), (730, 950, 1250, 1800)
    _, regions = layout.find_regions(page_with(title, left_above, left_below, right_above, right_below))
    starts = [(region.box.left > 700, region.box.top) for region in regions]
    assert len(regions) == 5
    assert starts == [(False, starts[0][1]), *sorted(starts[1:])]


def test_words_far_apart_on_one_line_are_not_columns() -> None:
    _, regions = layout.find_regions(
        page_with((150, 400, 600, 430), (800, 400, 1250, 430), (150, 600, 1250, 900))
    )
    assert [region.box.width > 1000 for region in regions] == [True, True]


@pytest.mark.parametrize("skew_degrees", [-2.0, -0.7, 0.0, 0.4, 1.5])
def test_the_skew_is_found_to_a_tenth_of_a_degree(skew_degrees: float) -> None:
    straight = Image.fromarray(page_with((150, 200, 1250, 1900)))
    skewed = np.asarray(straight.rotate(skew_degrees, fillcolor=240, resample=Image.Resampling.BILINEAR))
    assert layout.find_skew(layout.ink_of(skewed)) == pytest.approx(skew_degrees, abs=0.1)


def test_a_real_page_is_covered_by_its_regions(book: list[TypesetPage]) -> None:
    for page in book:
        image, regions = layout.find_regions(page.scan())
        ink = layout.without_specks(layout.ink_of(image))
        inside = np.zeros_like(ink)
        for box, _, _ in regions:
            inside[box.top // 4 : box.bottom // 4 + 1, box.left // 4 : box.right // 4 + 1] = True
        assert (ink & inside).sum() > 0.99 * ink.sum()


def test_an_empty_page_has_no_regions() -> None:
    image, regions = layout.find_regions(scan.as_scanned(np.full((2100, 1400), 255, np.uint8), seed=1))
    assert image.shape == (2100, 1400)
    assert [region for region in regions if region.ink > 50] == []


def test_the_layout_leaves_the_scan_as_it_was(book: list[TypesetPage]) -> None:
    scanned = book[0].scan()
    scanned.setflags(write=False)  # as it comes from the store
    before = scanned.copy()
    layout.find_regions(scanned)
    assert np.array_equal(scanned, before)


# ---- the score ----


def test_a_perfect_reading_scores_zero_whatever_the_typography() -> None:
    known = [Span("title", "“Curly” quotes"), Span("body", "It’s a dash – and\nanother line…")]
    score = score_page(known, '"Curly"  quotes\n\nIt\'s a dash - and another line...')
    assert score.error_rate() == 0.0
    assert score.characters.total() == len('"Curly" quotes ') + len("It's a dash - and another line... ")


def test_errors_are_booked_to_the_kind_of_text_they_fall_in() -> None:
    known = [Span("body", "abcdefghi"), Span("code", "x = 1")]
    score = score_page(known, "abcXefghi\nx = 7 !")
    assert (score.errors["body"], score.errors["code"]) == (1, 3)
    assert score.error_rate("body") == pytest.approx(1 / 10)
    assert score.error_rate() == pytest.approx(4 / 16)


def test_reading_columns_in_the_wrong_order_is_an_error() -> None:
    known = [Span("body", "the left column"), Span("body", "and the right one")]
    assert score_page(known, "and the right one\nthe left column").error_rate() > 0.5


def test_scores_add_up() -> None:
    one, other = score_page([Span("body", "abc")], "abd"), score_page([Span("body", "abcd")], "abcd")
    assert (one + other).error_rate() == pytest.approx(1 / 9)


def test_nothing_known_is_nothing_wrong() -> None:
    assert score_page([], "whatever was read").error_rate() == 0.0


def test_normalised_text_keeps_letters_and_single_spaces() -> None:
    assert normalised(" ﬁne\n\n “work” ") == 'fine "work"'


# ---- reading, for real ----


def test_a_page_is_read_nearly_without_errors(book: list[TypesetPage], engine: OcrEngine) -> None:
    page = book[1]  # a title, two columns, code
    image, regions = layout.find_regions(page.scan())
    passages = [engine.read(image, region) for region in regions]
    read = PageText(page.number, regions, passages, image)
    score = score_page(page.spans, read.text)
    assert score.error_rate("title") == 0.0
    assert score.error_rate("body") <= 0.03
    for region, passage in zip(regions, passages, strict=True):
        for word in passage.words:
            assert region.box.left <= word.box.left < word.box.right <= region.box.right
            assert region.box.top <= word.box.top < word.box.bottom <= region.box.bottom


def test_a_region_without_text_reads_as_nothing(engine: OcrEngine) -> None:
    blank = np.full((200, 300), 235, np.uint8)
    assert engine.read(blank, Region(Box(20, 20, 280, 180), 3, 0)) == Passage("", [])


# ---- pages of a PDF ----


def test_the_pages_of_a_pdf_are_scans_too(tmp_path: Path, book: list[TypesetPage]) -> None:
    path = tmp_path / "book.pdf"
    pictures = [Image.fromarray(page.draw()) for page in book[:3]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], resolution=250)
    pages = pdf_pages(path, page_count=2)
    assert [(page.number, page.spans) for page in pages] == [(1, ()), (2, ())]
    rendered = pages[1].scan()
    assert rendered.dtype == np.uint8
    assert rendered.shape == pytest.approx((PAGE_HEIGHT, PAGE_WIDTH), abs=2)
    assert len(layout.find_regions(rendered)[1]) == len(layout.find_regions(book[1].draw())[1])
    assert len(pdf_pages(path)) == 3


def test_what_is_no_pdf_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.pdf"
    path.write_text("not a PDF")
    with pytest.raises(ValueError, match=r"notes\.pdf is not a readable PDF"):
        pdf_pages(path)
    with pytest.raises(FileNotFoundError):
        pdf_pages(tmp_path / "missing.pdf")


# ---- the report ----


def test_the_annotated_page_shows_regions_and_words_and_a_legend() -> None:
    words = [Word("sure", Box(50, 60, 150, 90), 96.0), Word("hardly", Box(160, 60, 300, 90), 20.0)]
    page = PageText(7, [Region(Box(40, 40, 500, 120), 1, 10)], [Passage("sure hardly", words)], image=None)
    white = np.full((400, 900), 255, np.uint8)
    picture = np.asarray(report.annotated(white, page))
    assert picture.shape == (478, 900, 3)
    assert picture[200, 700].tolist() == [255, 255, 255]  # outside
    assert picture[100, 400].tolist() != [255, 255, 255]  # tinted
    green, red = picture[60, 100].astype(int), picture[60, 230].astype(int)
    assert green[1] > green[0]
    assert red[0] > red[1] + 100
    assert (picture[400:] < 100).any()  # the legend


def test_progress_in_a_log_is_lines_of_text() -> None:
    console = Console(force_terminal=False, record=True, file=StringIO())
    pages = [PageText(number, [], [], None) for number in (1, 2, 3)]
    assert list(report.with_progress(iter(pages), 3, "2 workers", console)) == pages
    assert console.export_text().startswith("2 workers: 3/3 pages")


def test_the_table_shows_the_speed_up_only_if_both_ways_were_timed() -> None:
    score = score_page([Span("body", "a" * 99)], "a" * 99)
    console = Console(width=100, record=True, file=StringIO())
    console.print(report.results_table(report.Run(32, 16.0), report.Run(16, 15.2), 2, score, 450_000_000))
    shown = console.export_text()
    assert "1.90 ×" in shown
    assert "450 MB" in shown
    console.print(report.results_table(None, report.Run(16, 15.2), 2, score, 0))
    assert "speed-up" not in console.export_text()


def test_the_text_is_written_page_by_page(tmp_path: Path) -> None:
    report.write_text([(1, "one"), (2, "two")], tmp_path / "book.txt")
    assert (tmp_path / "book.txt").read_text(encoding="utf-8") == "——— 1 ———\n\none\n\n——— 2 ———\n\ntwo\n\n"
