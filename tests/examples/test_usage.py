"""The usage that Ray's documentation shows, in programs of our own: with the import swapped they print this.

The programs were run with Ray 2.60 too, and printed the same there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.running import run

EXPECTED = {
    "tasks": """
        squares: [0, 1, 4, 9, 16]
        sum of squares: 25
        several results: [3, 2, 1]
        options for one call: (1, 2, 3)
        tasks of tasks: 21
        ready first: 0.0 still running: 1
        not there after a tenth of a second
        cancelled
        caught: True
        after two retries: connected
        caught at the end of a chain
    """,
    "objects": """
        sums: {499999500000}
        captured by a function: 499999500000
        inside a list: 499999500010
        made elsewhere: 1000.0
        read-only: assignment destination is read-only
        in a copy: 1
        identity is kept: True
        references are equal by what they refer to: True
    """,
    "actors": """
        in order: [10, 11, 13, 16]
        several results: [0, 16]
        shared by tasks: 46
        inherited: hello from a subclass
        at a time: {20}
        two threads: True
        by name: 6
        the same one: 7
        died: ActorDiedError
        restarted: done, in the second life
        killed: its name is free
    """,
    "generators": """
        values: [0, 1, 2, 3, 4]
        blocks: [0, 10, 20]
        passed on: ['ONE', 'TWO']
        async: [0, 1, 2]
        before the error: [0, 1]
        of both together: 9
    """,
    "patterns": """
        limited: 9900
        never more than two at a time: True
        sorted: True
        batches: 333283335000
        from a queue: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        pool: [0, 2, 4, 6, 8]
        tree: ['trainer 0: 6', 'trainer 1: 6', 'trainer 2: 6']
        nobody goes: []
        all go: ['go', 'go']
        steps: [1, 3, 4]
    """,
    "programs": """
        pi is about 3.1, after 200000 samples
        words: [('the', 7), ('is', 3)]
        weights: [1.0, -2.0, 3.0]
        the glider has moved to: [(2, 4), (3, 2), (3, 4), (4, 3), (4, 4)]
    """,
}


@pytest.mark.parametrize("program", EXPECTED)
def test_a_program_written_for_ray(program: str, tmp_path: Path) -> None:
    shown = run(tmp_path, f"usage/{program}.py").stdout
    assert shown.splitlines() == [line.strip() for line in EXPECTED[program].strip().splitlines()]
