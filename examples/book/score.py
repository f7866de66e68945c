"""How well was it read? Character error rates against the known text.

The character error rate is the number of characters to insert, delete or replace to turn what was read into
what is known, divided by the number of known characters. Before comparing, both texts are normalised: any
white space counts as one space, curly quotes as straight ones, all dashes as hyphens, an ellipsis as three
dots, and ligatures as their letters.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .model import Span

TYPOGRAPHY = str.maketrans("‘’‚`´“”„–—−‐", "'''''\"\"\"----")


def normalised(text: str) -> str:
    """The text without differences of typography and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text.translate(TYPOGRAPHY)).replace("''", '"').split())


@dataclass(slots=True)
class Score:
    """Errors and known characters, by kind of text."""

    errors: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Score) -> Score:
        return Score(self.errors + other.errors, self.characters + other.characters)

    def error_rate(self, *kinds: str) -> float:
        """Errors per known character of the kinds named (none: of all); 0.0 where nothing is known."""
        chosen = kinds or tuple(self.characters)
        characters = sum(self.characters[kind] for kind in chosen)
        return sum(self.errors[kind] for kind in chosen) / characters if characters else 0.0


def score_page(known: Iterable[Span], read: str) -> Score:
    """Aligns the page as read with all of its known text, so wrong reading order costs too, and books every
    error to the kind of text it fell in."""
    from rapidfuzz.distance import Levenshtein

    text, kinds = "", []
    for span in known:
        piece = normalised(span.text)
        if piece:
            text += piece + " "
            kinds += [span.kind] * (len(piece) + 1)
    score = Score(characters=Counter(kinds))
    for edit in Levenshtein.editops(text.rstrip(), normalised(read)):
        score.errors[kind_at(kinds, edit.src_pos)] += 1
    return score


def kind_at(kinds: Sequence[str], position: int) -> str:
    """The kind of text at a position; what is read beyond the end belongs to the last."""
    return kinds[min(position, len(kinds) - 1)] if kinds else "nothing"
