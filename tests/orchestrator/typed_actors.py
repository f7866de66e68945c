"""What mypy, with the plugin, makes of actors; `test_typing.py` has it read this file, nothing runs it.

To other checkers a decorated class is `Any`: they have no type for what is a class and has `remote` too.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

import orchestrator as ray
from orchestrator import ActorHandle


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def increment(self, by: int = 1) -> int:
        self.n += by
        return self.n


@ray.remote(num_cpus=1)
class Other:
    pass


def actors() -> None:
    counter = Counter.remote(1)
    assert_type(counter, ActorHandle)
    assert_type(Counter.options(name="a").remote(start=ray.put(1)), ActorHandle)
    assert_type(counter.increment.remote(2), Any)
    assert_type(Counter(3).increment(), int)
    assert_type(Other.remote(), ActorHandle)
