"""The operations that `path_counts.py` counts, one at a time, in a real session.

What would make a figure depend on time is kept away: the background threads that read messages are stopped, a
reply is there before it is asked for, and a worker's calls are in its channel before it begins with them. So
nobody waits, and nobody looks whether somebody else has done the work.
"""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
import os
import pickle
import statistics
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import counters

#: Samples of each operation; of calls only one when instructions are counted, at ten microseconds for each.
REPEATS, REPEATS_OF_LONG = 3, 1
#: The interpreter adapts what runs often: everything runs so often before it is counted.
WARM_UP = 40
#: Calls that a worker finds in its channel; each difference between two of them is a sample.
QUEUED = 3
BATCH = 16
#: A call that is expected to take less is sent while others are under way.
CHEAP_US = 50
#: How often to warm up until calls are known to take less.
WARM_UP_MAX = 50
#: Work that no change of ours touches: what another build of Python takes for it.
YARDSTICK = "yardstick"

Figures = dict[str, float]


# -- the worker's side


def begin(kind: str, gate: str) -> None:
    """In a worker: wait until all that is to be counted has been sent, then count."""
    from orchestrator.core.current import require

    if not gate:
        return
    require().pump.stop()
    counters.marks = []
    counters.active = counters.make(kind)
    gc.collect()
    gc.disable()
    with open(gate) as opened:
        opened.read()
    counters.active.start()


def mark() -> bytes:
    """What is called. From one to the next: return, reply, take the next call, find its function, call it."""
    if counters.active is not None:
        counters.marks.append(counters.active.now())
    return b"ok"


def end(gate: str) -> tuple[list[int], Counter[str]]:
    """Stop counting, and say so; meanwhile nobody was in `get`, who would take back what waits for long."""
    if not gate or counters.active is None:
        return [], Counter()
    active, counters.active = counters.active, None
    active.stop()
    gc.enable()
    places = active.take()
    with open(gate, "w") as opened:
        opened.write("done")
    return counters.marks, places


def add_line(module: str, owner: str, name: str) -> None:
    """Make a method longer by one line that does nothing: to show that this is noticed."""
    cls = getattr(importlib.import_module(module), owner)
    method = getattr(cls, name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    body.insert(1 if ast.get_docstring(tree.body[0]) else 0, ast.parse("isinstance(self, object)").body[0])
    ast.fix_missing_locations(tree)
    made: dict[str, Any] = {}
    code = compile(tree, method.__code__.co_filename, "exec", flags=method.__code__.co_flags & 0x1000000)
    exec(code, method.__globals__, made)
    setattr(cls, name, made[name])


#: What `--longer` can make longer: in which process, module, class, method, and the figure that shows it.
LINES = {
    "submit": ("driver", "orchestrator.core.task_submitter", "TaskSubmitter", "submit", "task: submit"),
    "get": ("driver", "orchestrator.core.runtime", "Runtime", "get_one", "task: get"),
    "put": ("driver", "orchestrator.core.runtime", "Runtime", "put", "put of a small value"),
    "execute": ("worker", "orchestrator.core.executor", "Executor", "execute", "task: execute and reply"),
}


# -- the driver's side


class Measured:
    """Counts operations one at a time, with one counter; `figures` has the (lower) medians."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.repeats_of_calls = REPEATS if kind == "bytecodes" else REPEATS_OF_LONG
        #: where the work of each sample went, by function
        self._places: dict[str, list[Counter[str]]] = {}
        self._count = counters.make(kind)
        self._samples: dict[str, list[float]] = {}

    def of(self, name: str, function: Callable[[], Any], per: int = 1) -> Any:
        """Count one call of `function`, which stands for `per` operations; return what it returned."""
        nothing, _ = counters.run(self._count, [].clear)
        self._count.take()
        number, result = counters.run(self._count, function)
        self.note(name, (number - nothing) / per)
        places = {place: number / per for place, number in self._count.take().items()}
        self.note_places(name, Counter(places))  # type: ignore[arg-type]
        return result

    def note(self, name: str, figure: float) -> None:
        self._samples.setdefault(name, []).append(figure)

    def note_places(self, name: str, places: Counter[str]) -> None:
        self._places.setdefault(name, []).append(places)

    @property
    def places(self) -> dict[str, Counter[str]]:
        """Where the work of an operation went, by function: the mean of the samples."""
        return {
            name: Counter(
                {place: sum(one[place] for one in several) / len(several) for place in set().union(*several)}
            )
            for name, several in self._places.items()
        }

    @property
    def figures(self) -> Figures:
        return {name: round(statistics.median_low(samples), 1) for name, samples in self._samples.items()}

    def calls(self, name: str) -> int:
        """How many samples there are of an operation."""
        return len(self._samples.get(name, ()))

    def drop(self, name: str) -> None:
        """Forget the last sample of an operation."""
        self._samples[name].pop()
        self._places[name].pop()


def yardstick() -> int:
    """Work of the interpreter's."""
    total = 0
    for number in range(4):
        text = pickle.dumps((number, b"key", (number,)))
        total += len(pickle.loads(text)[1]) + sum(map(abs, (number, -number)))
    return total


class Calls:
    """Counts calls of tasks or of an actor's methods: `begin`, `mark` and `end`, remote."""

    def __init__(self, name: str, remotes: Sequence[Any], runtime: Any, api: Any) -> None:
        self.name = name
        self._begin, self._call, self._end = (one.remote for one in remotes)
        #: of these it is known what they take; an actor's calls are sent whatever they take
        self._tasks = remotes if name == "task" else ()
        self._runtime, self._api = runtime, api

    def warm(self) -> None:
        """Call each until it is known to take little: then several are sent at once."""
        for _ in range(WARM_UP_MAX):
            for _ in range(WARM_UP):
                self._api.get([self._begin("", ""), self._call(), self._end("")])
            if all(one._template.cost_us < CHEAP_US for one in self._tasks):
                return
        raise RuntimeError("calls that do nothing go on taking long: is there a processor for them?")

    def count_single(self, measured: Measured) -> None:
        """Submit one call; get its value when it is here."""
        endpoint, pump, get = self._runtime.endpoint, self._runtime.pump, self._api.get
        submitted, got = f"{self.name}: submit", f"{self.name}: get"
        ticks: list[None] = []
        tick = pump.tick
        pump.tick = lambda: ticks.append(None) or tick()
        try:
            while measured.calls(got) < measured.repeats_of_calls:
                get(self._call())
                ref = measured.of(submitted, self._call)
                while not endpoint.has_message(endpoint.CONTROL):
                    endpoint.wait(1 << endpoint.CONTROL, 1.0, endpoint.bell())
                ticks.clear()
                measured.of(got, partial(get, ref))
                if ticks:
                    # The message was another one, and the reply had to be waited for.
                    measured.drop(got)
                del ref
        finally:
            pump.tick = tick

    def count_batch(self, measured: Measured) -> None:
        """Get the values of many calls at once, all of which are here."""
        endpoint, inbox = self._runtime.endpoint, self._runtime.pump._inbox
        for _ in range(measured.repeats_of_calls):
            refs = [self._call() for _ in range(BATCH)]
            while len(inbox) < BATCH:
                bell = endpoint.bell()
                message = endpoint.receive(endpoint.CONTROL)
                if message is None:
                    endpoint.wait(1 << endpoint.CONTROL, 1.0, bell)
                else:
                    inbox.append(message)
            measured.of(f"{self.name}: get of {BATCH}, each", partial(self._api.get, refs), per=BATCH)
            del refs

    def count_worker(self, measured: Measured, folder: str) -> None:
        """Count in the worker, from one call of `mark` to the next."""
        self.warm()
        opened, done = os.path.join(folder, "opened"), os.path.join(folder, "done")
        for path in (opened, done):
            if not os.path.exists(path):
                os.mkfifo(path)
        first = self._begin(measured.kind, opened)
        refs = [self._call() for _ in range(QUEUED)]
        last = self._end(done)
        Path(opened).write_text("go")
        Path(done).read_text()
        marks, places = self._api.get(last)
        self._api.get([first, *refs])
        name = f"{self.name}: execute and reply"
        for before, after in pairwise(marks):
            measured.note(name, after - before)
        # One turn before the first mark, and one after the last.
        turns = QUEUED + 1
        measured.note_places(name, Counter({place: number / turns for place, number in places.items()}))


def count_objects(measured: Measured, api: Any) -> None:
    """`put`, and `get` of what was put: a value that is kept as it is, and one that is pickled."""
    for label, value in (("a small value", 1), ("a list", [1, 2, 3])):
        for _ in range(WARM_UP):
            api.get(api.put(value))
        for _ in range(REPEATS):
            ref = measured.of(f"put of {label}", partial(api.put, value))
            measured.of(f"get of {label} that was put", partial(api.get, ref))
            del ref


def count_store(measured: Measured) -> None:
    """plasma by itself: an object's life, and a message."""
    from plasma import Store

    payload = bytes(100)
    with Store.create(16 << 20, max_objects=1024) as store, store.stand_in() as other:
        sender = other.endpoint.sender(store.address)
        receive = partial(store.endpoint.receive, store.endpoint.CONTROL)
        for number in range(-WARM_UP, REPEATS):
            count = measured.of if number >= 0 else _just_call
            key = (number + WARM_UP).to_bytes(16, "little")
            allocation = count("store: create", partial(store.create_buffer, key, 100))
            count("store: seal", allocation.seal)
            buffer = count("store: get", partial(store.get, key))
            count("store: release", partial(store.release, buffer))
            count("store: delete", partial(store.delete, key))
            count("channel: send", partial(sender.send, payload))
            count("channel: receive", receive)
            del allocation, buffer


def _just_call(name: str, function: Callable[[], Any]) -> Any:
    return function()


def is_debug_build() -> bool:
    """Whether plasma checks invariants as it goes, which takes its instructions."""
    from plasma import Store

    with Store.create(1 << 20, max_objects=64) as store:
        return "my_pins_made" in store.stats()


def count_all(kinds: Sequence[str], longer: Sequence[str] = ()) -> dict[str, Measured]:
    """Count everything, by each kind of counter; ``longer``: with a line more on these paths."""
    import orchestrator as api
    from orchestrator.core.current import require

    lines = [LINES[name] for name in longer]
    for side, *line, _ in lines:
        if side == "driver":
            add_line(*line)
    found = {}
    api.init(num_cpus=1)
    try:
        runtime = require()
        tasks = [api.remote(function) for function in (begin, mark, end)]

        @api.remote(num_cpus=0)
        class Actor:
            def begin(self, kind: str, gate: str) -> None:
                return begin(kind, gate)

            def mark(self) -> bytes:
                return mark()

            def end(self, gate: str) -> Any:
                return end(gate)

        actor = Actor.remote()
        for side, *line, _ in lines:
            if side == "worker":
                api.get(api.remote(add_line).remote(*line))
        calls = [
            Calls("task", tasks, runtime, api),
            Calls("actor call", [actor.begin, actor.mark, actor.end], runtime, api),
        ]
        # From here on this process reads messages only in `get`.
        runtime.pump.stop()
        for kind in kinds:
            measured = found[kind] = Measured(kind)
            if kind != "bytecodes":
                for _ in range(WARM_UP):
                    yardstick()
                measured.of(YARDSTICK, yardstick)
            count_objects(measured, api)
            count_store(measured)
            with tempfile.TemporaryDirectory() as folder:
                for one in calls:
                    one.warm()
                    one.count_single(measured)
                    if kind == "bytecodes":
                        one.count_batch(measured)
                    one.count_worker(measured, folder)
    finally:
        api.shutdown()
    return found
