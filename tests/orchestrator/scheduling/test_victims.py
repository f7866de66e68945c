"""Who ends when memory runs out."""

from __future__ import annotations

from orchestrator.scheduling.victims import Candidate, choose_victim, inevitable, worth_ending

GIB = 1 << 30


def running(
    token: int, owner: int = 1, *, retriable: bool = True, since_s: float = 0, gib: float = 1
) -> Candidate:
    return Candidate(token, owner, retriable, since_s, int(gib * GIB))


def victim(*candidates: Candidate, excess_gib: float = 0) -> int | None:
    chosen = choose_victim(worth_ending(candidates), int(excess_gib * GIB))
    return chosen.token if chosen else None


def test_nobody() -> None:
    assert victim() is None


def test_what_can_be_repeated_goes_first() -> None:
    assert victim(running(1, retriable=False, since_s=9, gib=8), running(2, since_s=1)) == 2
    assert victim(running(1, retriable=False, since_s=9), running(2, retriable=False, since_s=1)) == 1


def test_the_youngest_goes_first() -> None:
    assert victim(running(1, since_s=10, gib=1), running(2, since_s=5, gib=8)) == 1


def test_of_the_same_age_the_largest_goes() -> None:
    assert (
        victim(running(1, since_s=10.0, gib=1), running(2, since_s=9.5, gib=3), running(3, since_s=1, gib=9))
        == 2
    )


def test_whoever_has_most_running_gives_first() -> None:
    one_has_three = [running(token, 1, since_s=token) for token in (1, 2, 3)]
    assert victim(*one_has_three, running(9, 2, since_s=99)) == 3


def test_who_has_next_to_nothing_is_spared() -> None:
    assert victim(running(1, retriable=False, gib=8), running(2, since_s=9, gib=0.01)) == 1
    assert victim(running(1, gib=0.01), running(2, gib=0.02)) == 2, "if all have little, one must go"


def test_nobody_ends_for_one_who_must_go_anyway() -> None:
    small, large = running(1, since_s=9, gib=1), running(2, retriable=False, gib=5)
    assert victim(small, large, excess_gib=0.5) == 1, "its end is enough"
    assert victim(small, large, excess_gib=1.5) == 2, "it would not be enough"
    assert victim(small, large, excess_gib=5.5) == 1, "both must go"
    assert victim(small, large, excess_gib=9) == 1, "others hold the memory"


def test_who_must_go_anyway_is_too_large_by_itself() -> None:
    large, others = running(9, gib=13), [running(1, gib=1.5), running(2, gib=1.5)]
    assert inevitable([*others, large], int(3.8 * GIB)) == [large]
    assert inevitable([large], int(0.8 * GIB)) == [large]
    assert inevitable([*others, large], int(1.2 * GIB)) == []
    assert inevitable([*others, large], 17 * GIB) == [], "whoever else has it"
