"""Functions on their way between nodes."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.ids import content_id, home_of
from orchestrator.core.functions import Functions
from orchestrator.objects import plasma_adapter as objects

HERE = 2
BLOB = objects.encode(len, "len").to_bytes()
KEY = content_id(BLOB, 1)


class References:
    """What is needed of `core.references.References`."""

    def is_foreign(self, identity: bytes) -> bool:
        return home_of(identity) != HERE


def functions(*answers: Any) -> tuple[Functions, list[bytes]]:
    """Return those of a process of node 2, and what it asks node 1 for, which answers so, in turn."""
    made = Functions(None, References(), HERE)  # type: ignore[arg-type]
    asked: list[bytes] = []
    left = list(answers)

    def fetch(identity: bytes) -> Any:
        asked.append(identity)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    made.fetch = fetch
    return made, asked


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "FUNCTION_PAUSES_S", (0.0, 0.0))


def test_it_is_asked_for_once() -> None:
    made, asked = functions(BLOB)
    assert made.load(KEY) is made.load(KEY) is len
    assert asked == [KEY]


@pytest.mark.parametrize("news", [exceptions.ObjectLostError("gone"), exceptions.ObjectFreedError("freed")])
def test_old_news_of_an_equal_function_are_not_believed(news: Exception) -> None:
    """One process has exported it and died, and so has another one since, which is alive."""
    made, asked = functions(news, news, BLOB)
    assert made.load(KEY) is len
    assert asked == [KEY] * 3


def test_one_that_is_gone_is_an_error_that_says_why() -> None:
    made, asked = functions(*[exceptions.ObjectLostError(f"reason {n}") for n in range(3)])
    with pytest.raises(exceptions.ObjectLostError, match=r"gone with the process that had it \(reason 2\)"):
        made.load(KEY)
    assert asked == [KEY] * 3
