"""A real text that every Python brings along: the language reference in `pydoc_data.topics`.

The source is plain text as Sphinx writes it: underlined titles, blank lines between paragraphs, indented
code, *emphasis*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

ITEM = re.compile(r" *(\* |\d+\. )")
#: A string literal inside Sphinx's own quotes, as in "'utf-8'".
QUOTED_STRING = re.compile(r"\"('[^'\n]*')\"")
UNDERLINE = re.compile(r"([*=\-~^\"])\1{2,}")
#: Paragraphs after which an indented one is prose, although a colon precedes it.
PROSE_INTRODUCTIONS = ("see also:", "note:", "warning:", "caution:")


class Paragraph(NamedTuple):
    """`kind` is "title", "heading", "body" or "code". Only in code do line breaks and indentation count."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Chapter:
    title: str
    paragraphs: tuple[Paragraph, ...]


def chapters() -> Iterator[Chapter]:
    """The topics in alphabetical order, each a chapter."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        paragraphs = tuple(parse(topics[name]))
        title = next((paragraph.text for paragraph in paragraphs if paragraph.kind == "title"), name)
        yield Chapter(title, paragraphs)


def parse(source: str) -> Iterator[Paragraph]:
    """Splits one topic into paragraphs. Tables drawn with characters are left out."""
    source = QUOTED_STRING.sub(r"\1", source)
    code_below: int | None = None  # paragraphs indented deeper than this are code
    for chunk in re.split(r"\n[ \t]*\n", source.expandtabs()):
        lines = [line.rstrip() for line in chunk.splitlines() if line.strip()]
        if (
            not lines
            or lines[0].lstrip().startswith(("+-", "| ", "+="))
            or UNDERLINE.fullmatch(lines[0].strip())
        ):
            continue
        if len(lines) >= 2 and UNDERLINE.fullmatch(lines[1]):
            kind = "title" if lines[1][0] == "*" else "heading"
            yield Paragraph(kind, without_emphasis(lines[0].strip()))
            lines, code_below = lines[2:], None
            if not lines:
                continue
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        if code_below is not None and (indent <= code_below or ITEM.match(lines[0])):
            code_below = None
        if code_below is not None or lines[0].lstrip().startswith(">>>"):
            yield Paragraph("code", "\n".join(line[indent:] for line in lines))
            continue
        text = reflow(lines)
        yield Paragraph("body", text)
        if text.endswith(":") and text.lower() not in PROSE_INTRODUCTIONS:
            code_below = indent


def reflow(lines: list[str]) -> str:
    """One paragraph on one line, a dash for its bullet; what a hyphen parts at a line's end is joined."""
    text = lines[0].strip()
    for line in lines[1:]:
        text += line.strip() if text.endswith("-") and text[-2:-1].isalpha() else " " + line.strip()
    return re.sub(r"^\* ", "– ", text)


def without_emphasis(text: str) -> str:
    """Drops the asterisks around *emphasised* words."""
    return re.sub(r"\*+(\w[^*]*)\*+", r"\1", text)
