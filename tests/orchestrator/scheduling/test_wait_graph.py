"""Circles of waiting processes, without any."""

from __future__ import annotations

from orchestrator.scheduling.wait_graph import Ask, Break, Instruction, WaitGraph, Waiting

A, B, C = 1, 2, 3


def wait(
    graph: WaitGraph,
    process: int,
    *calls: tuple[int, int],
    number: int = 1,
    run: tuple[int, int] | None = None,
    is_actor: bool = True,
    confirms: bool = False,
) -> list[Instruction]:
    out = graph.waiting(process, Waiting(number, f"P{process}.f", run, is_actor, calls), confirms=confirms)
    graph.validate()
    return out


def test_an_actor_that_waits_for_itself() -> None:
    graph = WaitGraph()
    assert wait(graph, A, (A, 7)) == [Ask(A, 1)]
    assert wait(graph, A, (A, 7), confirms=True) == [Break(A, 1, (7,), "P1.f waits for P1.f")]


def test_a_circle_is_broken_when_all_have_confirmed() -> None:
    graph = WaitGraph()
    assert wait(graph, A, (B, 1)) == []
    assert wait(graph, B, (C, 2)) == []
    assert set(wait(graph, C, (A, 3))) == {Ask(A, 1), Ask(B, 1), Ask(C, 1)}
    assert wait(graph, A, (B, 1), confirms=True) == []
    assert wait(graph, C, (A, 3), confirms=True) == []
    (broken,) = wait(graph, B, (C, 2), confirms=True)
    assert broken == Break(C, 1, (3,), "P3.f waits for P1.f, which waits for P2.f, which waits for P3.f")


def test_a_chain_is_no_circle() -> None:
    graph = WaitGraph()
    assert wait(graph, A, (B, 1)) == []
    assert wait(graph, B, (C, 2)) == []


def test_whoever_goes_on_opens_the_circle() -> None:
    graph = WaitGraph()
    wait(graph, A, (B, 1))
    assert len(wait(graph, B, (A, 2))) == 2
    graph.over(A)
    graph.validate()
    assert wait(graph, B, (A, 2), confirms=True) == []
    assert wait(graph, A, (B, 3), number=2) == [Ask(A, 2), Ask(B, 1)], "and may close it again"


def test_who_waits_for_something_else_by_now_confirms_nothing() -> None:
    graph = WaitGraph()
    wait(graph, A, (B, 1))
    wait(graph, B, (A, 2))
    assert wait(graph, A, (C, 9), confirms=True) == []
    assert wait(graph, B, (A, 2), confirms=True) == []


def test_a_task_in_the_circle_counts_if_it_is_the_one_that_runs() -> None:
    graph = WaitGraph()
    wait(graph, B, (A, 5), is_actor=False, run=(A, 4))
    assert wait(graph, A, (B, 3)) == [], "it is queued behind another one and will be sent back"
    assert set(wait(graph, A, (B, 4), number=2)) == {Ask(A, 2), Ask(B, 1)}
