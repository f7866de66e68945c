"""The error for a value that can't be stored says where the culprit sits."""

from __future__ import annotations

import functools
import socket
import sqlite3
import sys
import threading
import weakref

import pytest

from plasma.errors import SerializationError
from plasma.serialization import Serializer, dumps

LOCK = threading.Lock()


class Pool:
    def __init__(self, resource):
        self.size = 3
        self.resource = resource


class Slotted:
    __slots__ = ("first", "second")

    def __init__(self, first, second):
        self.first, self.second = first, second


class Reduced:
    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        return Reduced, (self.inner,)


class Broken:
    def __reduce__(self):
        raise RuntimeError("I don't want to")


class Client:
    """What a library's client object looks like: harmless outside, a connection inside."""

    def __init__(self):
        self.session = Pool({"lock": threading.RLock()})


CLIENT = Client()


def path_of(value, **options) -> str:
    with pytest.raises(SerializationError) as caught:
        dumps(value, **options)
    assert caught.value.path in str(caught.value)
    assert caught.value.__cause__ is not None
    return caught.value.path


def test_the_path_of_the_docstring():
    assert path_of({"a": Pool(threading.Lock())}) == "value['a'].resource → _thread.lock"


def generator():
    yield


def closure(resource):
    def task():
        return resource

    return task


UNPICKLABLES = {
    "lock": (threading.Lock, "_thread.lock"),
    "condition": (threading.Condition, "_thread.RLock"),
    "generator": (generator, "generator"),
    "socket": (socket.socket, "socket.socket"),
    "file": (lambda: open("/dev/null", "w"), "_io.TextIOWrapper"),
    "connection": (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection"),
    "frame": (sys._getframe, "frame"),
    "thread": (threading.Thread, "→ _thread."),
    "thread-local": (threading.local, "_thread._local"),
    "weak reference": (lambda: weakref.ref(Pool), "weakref"),
    "module-level client": (lambda: CLIENT, ".session.resource['lock'] → _thread.RLock"),
    "own refusal": (Broken, "Broken"),
    "iterator": (lambda: open("/dev/null", "rb"), "_io.BufferedReader"),
}


@pytest.mark.parametrize("make, expected", UNPICKLABLES.values(), ids=UNPICKLABLES)
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: [1, {"key": x}], closure], ids=["alone", "nested", "closure"]
)
def test_unpicklables_are_found_wherever_they_are(make, expected, wrap):
    resource = make()
    try:
        assert expected in path_of(wrap(resource))
    finally:
        if hasattr(resource, "close"):
            resource.close()


def test_a_closure_names_its_variable_its_function_and_its_place():
    path = path_of(closure(Pool(threading.Lock())))
    assert "closure variable 'resource' of closure.<locals>.task (defined at " in path
    assert "test_culprit.py:" in path
    assert path.endswith("resource → _thread.lock")


def test_defaults_and_globals_and_attributes_of_a_function():
    def with_default(a, b=LOCK):
        return a, b

    def with_keyword_default(*, b=LOCK):
        return b

    def with_attribute():
        return 1

    with_attribute.lock = LOCK
    assert "default of 'b' of" in path_of(with_default)
    assert "default of 'b' of" in path_of(with_keyword_default)
    assert "attribute 'lock' of" in path_of(with_attribute)


def test_a_global_used_by_a_function_that_travels_by_value():
    namespace = {"LOCK": LOCK, "__name__": "__main__"}
    exec("def outer():\n    return [LOCK for _ in range(3)]", namespace)
    assert "global variable 'LOCK' of outer" in path_of(namespace["outer"])


def test_containers_attributes_slots_and_constructors():
    assert path_of([0, (1, {"x": LOCK})]) == "value[1][1]['x'] → _thread.lock"
    assert path_of(Slotted(1, LOCK)) == "value.second → _thread.lock"
    assert path_of(Reduced([LOCK])) == "value.__reduce__()[1][0][0] → _thread.lock"
    assert path_of({LOCK: 1}).startswith("value → key <unlocked _thread.lock")
    assert path_of(functools.partial(print, LOCK)) == "value.args[0] → _thread.lock"
    assert path_of(Pool(LOCK).__init__) == "value.__self__.resource → _thread.lock"


def test_a_class_that_travels_by_value():
    class Holder:
        shared = LOCK

    assert path_of(Holder) == "value.shared → _thread.lock"
    assert path_of(Holder()).endswith(".shared → _thread.lock")


def test_cycles_end():
    cycle: dict = {"n": 1}
    cycle["self"] = cycle
    cycle["lock"] = LOCK
    assert path_of(cycle) == "value['lock'] → _thread.lock"


def test_the_search_is_bounded():
    value = LOCK
    for _ in range(200):
        value = [value]
    assert path_of(value).startswith("value[0][0][0]")


def test_callers_name_the_value():
    assert path_of([LOCK], name="argument 0 of f") == "argument 0 of f[0] → _thread.lock"


def test_errors_of_reducers_are_explained_too():
    def refuse(pool):
        raise ValueError("pools stay at home")

    with pytest.raises(SerializationError, match="pools stay at home") as caught:
        Serializer({Pool: refuse}).dumps({"a": Pool(1)})
    assert caught.value.path.startswith("value['a'] → ")
