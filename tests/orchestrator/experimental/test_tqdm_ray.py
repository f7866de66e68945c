"""Progress bars of tasks and actors appear in the driver."""

from __future__ import annotations

import io
import time

import pytest

import orchestrator as ray
from orchestrator.api import bars
from orchestrator.experimental import tqdm_ray

pytestmark = pytest.mark.usefixtures("shared_session")


@pytest.fixture
def shown(monkeypatch):
    """The states that the driver is told to show."""
    states = []

    class Recorder:
        def show(self, state):
            states.append(dict(state))

    monkeypatch.setattr(bars, "_shown", Recorder())
    return states


def wait_for_the_end(states, count=1):
    while sum(state["closed"] for state in states) < count:
        ray.wait([ray.put(0)], timeout=0)
        time.sleep(0.01)


def test_a_bar_in_a_task(shown):
    @ray.remote
    def work():
        return sum(tqdm_ray.tqdm(range(100), desc="adding", flush_interval_s=0))

    assert ray.get(work.remote()) == 4950
    wait_for_the_end(shown)
    assert [state["n"] for state in shown] == [*range(101), 100]
    assert {(state["desc"], state["total"]) for state in shown} == {("adding", 100)}
    assert len({state["uuid"] for state in shown}) == 1


def test_bars_of_several_tasks_are_told_apart(shown):
    @ray.remote
    def work(number):
        for _ in tqdm_ray.tqdm(range(3), desc=f"task {number}"):
            pass

    ray.get([work.remote(number) for number in range(4)])
    wait_for_the_end(shown, 4)
    assert {state["desc"] for state in shown} == {"task 0", "task 1", "task 2", "task 3"}
    assert len({state["uuid"] for state in shown}) == 4


def test_it_is_moved_by_hand(shown):
    with tqdm_ray.tqdm(total=10, flush_interval_s=0) as bar:
        bar.update(4)
        bar.set_description("half way")
        bar.total = 5
        bar.refresh()
        assert (bar.n, bar.total) == (4, 5)
    bar.close()
    assert [(one["n"], one["total"], one["closed"]) for one in shown] == [
        (0, 10, False),
        (4, 10, False),
        (4, 10, False),
        (4, 5, False),
        (4, 5, True),
    ]


def test_it_is_not_sent_for_every_step(shown):
    for _ in tqdm_ray.tqdm(range(100_000), flush_interval_s=60):
        pass
    assert len(shown) == 2


def test_without_an_iterable_there_is_nothing_to_iterate_over(shown):
    with pytest.raises(ValueError, match="no iterable"):
        list(tqdm_ray.tqdm(total=3))


def test_in_a_log_bars_are_lines(capsys):
    for _ in tqdm_ray.tqdm(iter(range(3)), desc="counting", unit="sheep"):
        tqdm_ray.safe_print("said between")
    captured = capsys.readouterr()
    assert captured.out == 3 * "said between\n"
    assert captured.err.splitlines()[-1].endswith("): 3 sheep, done")
    assert captured.err.startswith("(counting pid=")


def test_on_a_terminal_they_are_bars(monkeypatch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with tqdm_ray.tqdm(total=2, desc="rendering") as bar:
        bar.update(2)
        bar.refresh()
    assert "rendering" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
