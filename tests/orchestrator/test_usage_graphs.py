"""How graphs are used: written down with `bind`, and run with `execute`."""

from __future__ import annotations

import pytest

import orchestrator as ray
from orchestrator.dag import InputNode, MultiOutputNode

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
def double(x):
    return 2 * x


@ray.remote
def add(a, b):
    return a + b


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

    def count_to(self, n):
        yield from range(n)


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, count):
        self.count = count

    def increase(self, by):
        self.count += by

    def get(self):
        return self.count


class TestGraphsOfCalls:
    def test_functions_bound_to_each_other(self):
        graph = add.bind(double.bind(1), double.bind(2))
        assert ray.get(graph.execute()) == 6
        assert ray.get(graph.execute()) == 6, "as often as one likes"

    def test_an_input(self):
        with InputNode() as x:
            graph = double.bind(double.bind(x))
        assert [ray.get(graph.execute(i)) for i in range(3)] == [0, 4, 8]

    def test_parts_of_the_input(self):
        with InputNode() as given:
            graph = add.bind(given[0], given.offset)
        assert ray.get(graph.execute(1, offset=10)) == 11
        with InputNode() as given:
            graph = add.bind(given["left"], given["right"])
        assert ray.get(graph.execute({"left": 2, "right": 3})) == 5

    def test_a_shared_node_runs_once(self, tmp_path):
        @ray.remote
        def mark(path):
            with open(path, "a") as file:
                file.write("x")
            return 1

        shared = mark.bind(str(tmp_path / "marks"))
        graph = add.bind(shared, add.bind(shared, shared))
        assert ray.get(graph.execute()) == 3
        assert (tmp_path / "marks").read_text() == "x"

    def test_nodes_inside_lists_and_dicts(self):
        @ray.remote
        def total(parts):
            return sum(ray.get(list(parts["items"])))

        assert ray.get(total.bind({"items": [double.bind(1), double.bind(2)]}).execute()) == 6

    def test_several_outputs(self):
        with InputNode() as x:
            graph = MultiOutputNode([double.bind(x), add.bind(x, 1)])
        assert ray.get(graph.execute(5)) == [10, 6]

    def test_methods_of_an_actor_that_is_there(self):
        worker = Worker.remote(3)
        with InputNode() as x:
            graph = worker.scale.bind(worker.scale.bind(x))
        assert ray.get(graph.execute(2)) == 18
        assert ray.get(worker.history.remote()) == [2, 6]

    def test_a_class_is_an_actor_of_each_execution(self):
        worker = Worker.bind(2)
        first = worker.scale.bind(1)
        with InputNode() as x:
            graph = add.bind(first, worker.scale.bind(x))
        assert ray.get(graph.execute(5)) == 12
        history = Worker.bind(1).history.bind()
        assert ray.get(history.execute()) == []

    def test_each_call_of_a_bound_class_comes_after_those_bound_before(self):
        first, second = Counter.bind(10), Counter.bind(10)
        first.increase.bind(2)
        between = first.get.bind()
        first.increase.bind(4)
        second.increase.bind(6)
        graph = add.bind(first.get.bind(), second.get.bind())
        assert ray.get(graph.execute()) == 32
        assert ray.get(graph.execute()) == 32, "each execution has new actors"
        assert ray.get(between.execute()) == 12, "what is bound later comes later"

    def test_a_call_before_takes_the_input_too(self):
        counter = Counter.bind(1)
        with InputNode() as x:
            counter.increase.bind(double.bind(x))
            graph = counter.get.bind()
        assert ray.get(graph.execute(5)) == 11

    def test_calls_of_a_handle_are_not_chained(self):
        counter = Counter.remote(1)
        counter.increase.bind(5)
        assert ray.get(counter.get.bind().execute()) == 1

    def test_a_call_with_several_results_is_taken_apart(self):
        @ray.remote(num_returns=2)
        def halves(x):
            return x // 2, x - x // 2

        for call in (Worker.remote().halves, Worker.bind().halves, halves):
            with InputNode() as given:
                few, many = call.bind(given)
                graph = MultiOutputNode([add.bind(few, many), many, few])
            assert ray.get(graph.execute(7)) == [7, 4, 3]
            assert ray.get(many.execute(9)) == 5

    def test_it_can_be_taken_whole_too(self):
        worker = Worker.remote()
        both = worker.halves.bind(5)
        assert ray.get(both.execute()) == [2, 3]
        assert ray.get(MultiOutputNode(both).execute()) == [2, 3]
        assert ray.get(both[-1].execute()) == 3
        assert ray.get(worker.history.remote()) == [5, 5, 5], "one call for each execution"

    def test_what_has_one_result_is_not_taken_apart(self):
        worker = Worker.remote()
        for node in (double.bind(1), worker.scale.bind(1), worker.count_to.bind(2)):
            with pytest.raises(TypeError, match="cannot be taken apart"):
                _a, _b = node
        with pytest.raises(IndexError, match="2 results, and none with the number 2"):
            worker.halves.bind(1)[2]
        a, b = worker.scale.options(num_returns=2).bind("ab")
        assert ray.get([a.execute(), b.execute()]) == ["a", "b"]

    def test_a_generator_of_an_actor(self):
        for node in (Worker.remote().count_to.bind(3), Worker.bind().count_to.bind(3)):
            assert ray.get(list(node.execute())) == [0, 1, 2]

    def test_options(self):
        graph = double.bind(4).options(name="doubling")
        assert ray.get(graph.execute()) == 8
        assert ray.get(Worker.options(num_cpus=0).bind(2).scale.bind(3).execute()) == 6

    def test_a_long_chain(self):
        node = double.bind(0)
        for _ in range(300):
            node = double.bind(node)
        assert ray.get(node.execute(), timeout=60) == 0

    def test_an_error_travels_to_the_end(self):
        worker = Worker.remote()
        with InputNode() as x:
            graph = double.bind(worker.positive.bind(x))
        with pytest.raises(ValueError, match="-1 is negative"):
            ray.get(graph.execute(-1))

    def test_wrong_arguments(self):
        with pytest.raises(TypeError, match="missing 1 required"):
            add.bind(1)
        with pytest.raises(TypeError, match="takes 2 positional"):
            Worker.remote().add.bind(1, 2, 3)
        with pytest.raises(TypeError, match="takes 2 positional"):
            Worker.bind().add.bind(1, 2, 3)
        with InputNode() as x:
            graph = double.bind(x)
        with pytest.raises(ValueError, match="needs its argument"):
            graph.execute()
        with pytest.raises(ValueError, match="no InputNode"):
            double.bind(1).execute(2)
        with pytest.raises(ValueError, match="several arguments"):
            graph.execute(1, 2)
        with InputNode() as given:
            graph = add.bind(given[0], given.offset)
        with pytest.raises(ValueError, match="no 'offset'"):
            graph.execute(1, ofset=2)
        with pytest.raises(TypeError, match="MultiOutputNode takes nodes"):
            MultiOutputNode([1])
        with pytest.raises(TypeError, match="cannot be pickled"):
            double.remote(graph)
