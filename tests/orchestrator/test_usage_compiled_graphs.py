"""How compiled graphs are used."""

from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.dag import DAGContext, InputNode, MultiOutputNode
from orchestrator.exceptions import (
    ActorDiedError,
    ChannelError,
    RayCgraphCapacityExceeded,
    RayChannelTimeoutError,
    TaskError,
)

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
def double(x):
    return 2 * x


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self, factor=1):
        self.factor = factor
        self.seen = []

    def scale(self, x):
        self.seen.append(x)
        return self.factor * x

    def add(self, a, b):
        return a + b

    def positive(self, x):
        if x < 0:
            raise ValueError(f"{x} is negative")
        return x

    def history(self):
        return self.seen

    @ray.method(num_returns=2)
    def halves(self, x):
        self.seen.append(x)
        return x // 2, x - x // 2

    @ray.method(num_returns=3)
    def too_few(self, x):
        return x, x

    def count_to(self, n):
        yield from range(n)

    def total(self, arrays):
        return float(sum(array.sum() for array in arrays))

    def wait_for(self, path):
        import time

        while not os.path.exists(path):
            time.sleep(0.005)
        return path

    def die(self, x):
        os._exit(3)


@pytest.fixture
def pipeline():
    """Two actors, one after the other, compiled."""
    first, second = Worker.remote(2), Worker.remote(10)
    with InputNode() as x:
        graph = second.scale.bind(first.scale.bind(x))
    compiled = graph.experimental_compile()
    yield compiled, first, second
    compiled.teardown()


class TestCompiledGraphs:
    def test_a_pipeline(self, pipeline):
        compiled, _, _ = pipeline
        assert [compiled.execute(i).get() for i in range(5)] == [0, 20, 40, 60, 80]
        assert ray.get(compiled.execute(1)) == 20
        assert ray.get([compiled.execute(i) for i in range(3)]) == [0, 20, 40]

    def test_executions_overlap_and_results_come_in_any_order(self, pipeline):
        compiled, _, _ = pipeline
        refs = [compiled.execute(i) for i in range(100)]
        assert [refs[i].get() for i in reversed(range(100))] == [20 * i for i in reversed(range(100))]

    def test_a_result_is_got_once(self, pipeline):
        compiled, _, _ = pipeline
        ref = compiled.execute(1)
        assert ref.get() == 20
        with pytest.raises(ValueError, match="once"):
            ref.get()

    def test_results_nobody_wants_are_dropped(self, pipeline):
        compiled, _, _ = pipeline
        for i in range(3000):  # more than may be buffered
            compiled.execute(i)
        assert compiled.execute(7).get() == 140

    def test_large_values(self, pipeline):
        compiled, _, _ = pipeline
        for size in (10, 100_000, 1_000_000):
            result = compiled.execute(np.ones(size)).get()
            assert result.shape == (size,) and result[0] == 20.0 and not result.flags.writeable
        held = [compiled.execute(np.full(200_000, i)).get() for i in range(30)]
        assert [array[0] for array in held] == [20.0 * i for i in range(30)], "views may be kept"

    def test_the_actors_still_take_calls(self, pipeline):
        compiled, first, second = pipeline
        compiled.execute(5).get()
        assert ray.get(first.history.remote()) == [5] and ray.get(second.history.remote()) == [10]
        compiled.execute(6).get()
        assert ray.get(second.history.remote()) == [10, 12]

    def test_several_outputs_and_shared_inputs(self):
        a, b = Worker.remote(2), Worker.remote(3)
        with InputNode() as given:
            left, right = a.scale.bind(given.x), b.scale.bind(given.x)
            graph = MultiOutputNode([a.add.bind(left, right), b.add.bind(left, given.y), left])
        compiled = graph.experimental_compile()
        for i in range(5):
            refs = compiled.execute(x=i, y=100)
            assert ray.get(refs) == [5 * i, 2 * i + 100, 2 * i]
        compiled.teardown()

    def test_arguments_that_hold_values_and_constants(self):
        a, b, c = Worker.remote(2), Worker.remote(3), Worker.remote()
        with InputNode() as x:
            graph = c.total.bind([a.scale.bind(x), b.scale.bind(x), np.ones(3)])
        compiled = graph.experimental_compile()
        assert compiled.execute(np.ones(200_000)).get() == 1_000_003.0
        compiled.teardown()

    def test_what_a_value_goes_to_twice_is_stored_once(self):
        a, b, c = Worker.remote(2), Worker.remote(1), Worker.remote(1)
        with InputNode() as x:
            big = a.scale.bind(x)
            graph = MultiOutputNode([b.scale.bind(big), c.scale.bind(big)])
        compiled = graph.experimental_compile()
        for _ in range(5):
            left, right = ray.get(compiled.execute(np.ones(300_000)))
            assert left.sum() == right.sum() == 600_000
        compiled.teardown()

    def test_an_error_comes_in_its_place_and_the_graph_goes_on(self):
        a, b = Worker.remote(), Worker.remote()
        with InputNode() as x:
            graph = b.scale.bind(a.positive.bind(x))
        compiled = graph.experimental_compile()
        refs = [compiled.execute(i) for i in (1, -1, 2)]
        assert refs[0].get() == 1
        with pytest.raises(ValueError, match="-1 is negative") as caught:
            refs[1].get()
        assert isinstance(caught.value, TaskError) and "Worker.positive" in str(caught.value)
        assert refs[2].get() == 2
        assert ray.get(b.history.remote()) == [1, 2], "b did not run for the one that failed"
        compiled.teardown()

    def test_in_a_coroutine(self, pipeline):
        compiled, _, _ = pipeline

        async def program():
            refs = [await compiled.execute_async(i) for i in range(5)]
            return [await ref for ref in refs]

        assert asyncio.run(program()) == [0, 20, 40, 60, 80]

    def test_actors_whose_calls_overlap(self):
        @ray.remote(num_cpus=0)
        class Async:
            async def scale(self, x):
                await asyncio.sleep(0)
                return 3 * x

        a, b = Async.remote(), Worker.options(max_concurrency=2).remote(5)
        with InputNode() as x:
            graph = b.scale.bind(a.scale.bind(x))
        compiled = graph.experimental_compile()
        assert [compiled.execute(i).get() for i in range(5)] == [0, 15, 30, 45, 60]
        compiled.teardown()

    def test_an_actor_is_in_a_graph_again_after_teardown(self):
        worker = Worker.remote(2)
        for _ in range(3):
            with InputNode() as x:
                compiled = worker.scale.bind(x).experimental_compile()
            assert compiled.execute(4).get() == 8
            compiled.teardown()
            compiled.teardown()
            with pytest.raises(ChannelError, match="torn down"):
                compiled.execute(4)
        assert ray.get(worker.history.remote()) == [4, 4, 4]

    def test_teardown_may_kill_the_actors(self, pipeline):
        compiled, first, _ = pipeline
        ready = compiled.execute(3)
        assert ready.get() == 60
        compiled.teardown(kill_actors=True)
        with pytest.raises(ActorDiedError, match="kill"):
            ray.get(first.history.remote(), timeout=20)

    def test_a_call_with_several_results_is_taken_apart(self):
        source, sink = Worker.remote(), Worker.remote(10)
        with InputNode() as x:
            few, many = source.halves.bind(x)
            # One goes out, one to another actor, both to this one.
            graph = MultiOutputNode([few, sink.scale.bind(many), source.add.bind(few, many)])
        compiled = graph.experimental_compile()
        for i in range(3):
            assert ray.get(compiled.execute(2 * i + 1)) == [i, 10 * (i + 1), 2 * i + 1]
        assert "Worker.halves[1]  <- 1  on Worker" in compiled.visualize()
        with pytest.raises(TypeError):
            ray.get(compiled.execute("not a number")[1])
        assert ray.get(compiled.execute(7)) == [3, 40, 7]
        compiled.teardown()
        assert ray.get(source.history.remote()) == [1, 3, 5, "not a number", 7]

    def test_another_number_of_results_is_an_error_in_each(self):
        worker = Worker.remote()
        with InputNode() as x:
            compiled = MultiOutputNode(worker.too_few.bind(x)).experimental_compile()
        for ref in compiled.execute(1):
            with pytest.raises(ValueError, match="num_returns=3, but the function returned 2 values"):
                ref.get()
        compiled.teardown()

    def test_pictures(self, pipeline, tmp_path):
        compiled, _, _ = pipeline
        text = compiled.visualize()
        assert "input" in text and text.count("Worker.scale") == 2 and "<- 1" in text
        dot = compiled.visualize(str(tmp_path / "graph.dot"), format="dot")
        assert dot.startswith("digraph") and "n0 -> n1;" in dot
        assert (tmp_path / "graph.dot").read_text() == dot
        with pytest.raises(ValueError, match="'ascii' or 'dot'"):
            compiled.visualize(format="png")

    def test_what_cannot_be_compiled(self):
        worker = Worker.remote()
        with InputNode() as x:
            with pytest.raises(ValueError, match="double"):
                worker.scale.bind(double.bind(x)).experimental_compile()
            with pytest.raises(ValueError, match=r"\.remote\(\)"):
                Worker.bind().scale.bind(x).experimental_compile()
            with pytest.raises(ValueError, match="bind the InputNode"):
                worker.history.bind().experimental_compile()
            with pytest.raises(ValueError, match="output"):
                MultiOutputNode([worker.scale.bind(x), x]).experimental_compile()
            with pytest.raises(ValueError, match="count_to: num_returns must be a number"):
                worker.count_to.bind(x).experimental_compile()
            with pytest.raises(ValueError, match=r"\.remote\(\)"):
                Worker.bind().halves.bind(x)[0].experimental_compile()
            with pytest.raises(ValueError, match="_max_inflight_executions"):
                worker.scale.bind(x).experimental_compile(_max_inflight_executions=0)
            with pytest.raises(ValueError, match="nccl"):
                worker.scale.bind(x).with_tensor_transport("nccl")

    def test_too_many_results_that_nobody_gets(self):
        worker = Worker.remote()
        with InputNode() as x:
            compiled = worker.scale.bind(x).experimental_compile(_max_buffered_results=3)
        refs = [compiled.execute(i) for i in range(3)]
        ray.get(worker.history.remote())
        with pytest.raises(RayCgraphCapacityExceeded, match="results of the compiled graph wait"):
            for _ in range(100):
                refs.append(compiled.execute(9))
        assert refs[0].get() == 0
        compiled.teardown()


@pytest.mark.not_inline("what runs at its call cannot be waited for, and has no process to die")
class TestProcessesOfCompiledGraphs:
    def test_limits_in_time(self, tmp_path):
        worker = Worker.remote()
        with InputNode() as x:
            compiled = worker.wait_for.bind(x).experimental_compile(
                _submit_timeout=0.05, _max_inflight_executions=2
            )
        path = str(tmp_path / "go")
        refs = [compiled.execute(path), compiled.execute(path)]
        with pytest.raises(RayCgraphCapacityExceeded, match="2 executions"):
            compiled.execute(path)
        with pytest.raises(RayChannelTimeoutError, match=r"after 0\.05 s"):
            refs[0].get(timeout=0.05)
        (tmp_path / "go").touch()
        assert ray.get(refs) == [path, path], "a result that was late can still be got"
        compiled.teardown()

    def test_the_default_limit_is_the_contexts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(DAGContext.get_current(), "get_timeout", 0.05)
        worker = Worker.remote()
        with InputNode() as x:
            compiled = worker.wait_for.bind(x).experimental_compile()
        ref = compiled.execute(str(tmp_path / "go"))
        with pytest.raises(RayChannelTimeoutError):
            ray.get(ref)
        (tmp_path / "go").touch()
        assert ref.get(timeout=-1)
        compiled.teardown()

    def test_one_graph_for_an_actor(self, pipeline):
        _, first, _ = pipeline
        with InputNode() as x:
            with pytest.raises(ValueError, match="another compiled graph"):
                first.scale.bind(x).experimental_compile()
        other = Worker.remote()
        with InputNode() as x:
            with pytest.raises(ValueError, match="another compiled graph"):
                first.scale.bind(other.scale.bind(x)).experimental_compile()
            assert other.scale.bind(x).experimental_compile().execute(3).get() == 3

    def test_an_actor_that_dies_in_the_middle(self):
        a, b = Worker.remote(), Worker.remote()
        with InputNode() as x:
            graph = b.scale.bind(a.die.bind(x))
        compiled = graph.experimental_compile()
        refs = [compiled.execute(i) for i in range(3)]
        for ref in refs:
            with pytest.raises(ActorDiedError, match="exited with code 3"):
                ref.get(timeout=20)
        with pytest.raises(ActorDiedError, match="part of a compiled graph"):
            compiled.execute(4)
        compiled.teardown()
        assert ray.get(b.scale.remote(2), timeout=20) == 2, "the living one is as before"
        with InputNode() as x:
            again = b.scale.bind(x).experimental_compile()
        assert again.execute(5).get() == 5
        again.teardown()

    def test_a_dead_actor_is_refused_at_once(self):
        worker = Worker.remote()
        ray.kill(worker)
        with InputNode() as x:
            with pytest.raises(ActorDiedError):
                worker.scale.bind(x).experimental_compile()

    def test_teardown_while_a_step_runs(self, tmp_path):
        import threading

        worker = Worker.remote()
        with InputNode() as x:
            compiled = worker.wait_for.bind(x).experimental_compile()
        ref = compiled.execute(str(tmp_path / "go"))
        timer = threading.Timer(0.1, (tmp_path / "go").touch)
        timer.start()
        compiled.teardown()
        timer.join()
        assert os.path.exists(tmp_path / "go"), "teardown has waited for the step"
        with pytest.raises((ChannelError, ValueError)):
            compiled.execute(1)
        del ref
        assert ray.get(worker.scale.remote(1), timeout=20) == 1

    def test_no_memory_is_left_behind(self):
        import gc

        from orchestrator.core.runtime import require

        store = require().store
        a, b, c = Worker.remote(), Worker.remote(), Worker.remote()
        with InputNode() as x:
            big = a.add.bind(x, 1)
            graph = MultiOutputNode([b.add.bind(big, 1), c.add.bind(big, 2)])
        compiled = graph.experimental_compile()
        ray.get(compiled.execute(np.ones(10)))
        gc.collect()
        before = store.stats()["used_bytes"]
        for _ in range(5):
            compiled.execute(np.ones(500_000))
        ray.get(compiled.execute(np.ones(500_000)))
        compiled.execute(1)  # drops what was not got
        compiled.teardown()
        gc.collect()
        assert store.stats()["used_bytes"] < before + 4_000_000
