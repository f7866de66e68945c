"""Run seeds through the simulations: `make simulate SEEDS=10000`, or one again: `make simulate SEED=4711`.

    python tools/simulate.py [--seeds N] [--first N] [--seed N] [--only gcs]

Every module `tests/simulation/<name>_world.py` is a simulation: its `run(seed)` raises if something that must
hold did not. A seed that fails is printed with the traceback, and is the same failure whenever it is run
again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
#: Seeds that one process runs before it reports.
CHUNK = 20
FAILURES_MAX = 10


def worlds() -> list[str]:
    """Return the names of all simulations."""
    return sorted(path.stem.removesuffix("_world") for path in (ROOT / "tests/simulation").glob("*_world.py"))


def run_chunk(name: str, first: int, count: int) -> list[tuple[int, str]]:
    """Return the seeds that failed, with their tracebacks."""
    module = importlib.import_module(f"tests.simulation.{name}_world")
    failed = []
    for seed in range(first, first + count):
        try:
            module.run(seed)
        except Exception:
            failed.append((seed, traceback.format_exc()))
    return failed


def main() -> int:
    """Return 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1000, help="how many, of each simulation")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, in this process: for a debugger")
    parser.add_argument("--only", choices=worlds(), help="only this simulation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    names = [options.only] if options.only else worlds()
    if options.seed is not None:
        for name in names:
            importlib.import_module(f"tests.simulation.{name}_world").run(options.seed)
            print(f"{name} {options.seed}: all held")
        return 0
    failures_count = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in names:
            began_s = time.monotonic()
            end = options.first + options.seeds
            starts = range(options.first, end, CHUNK)
            counts = [min(CHUNK, end - start) for start in starts]
            done = 0
            for count, failed in zip(
                counts, pool.map(run_chunk, [name] * len(counts), starts, counts), strict=True
            ):
                done += count
                failures_count += len(failed)
                for seed, text in failed:
                    print(f"{name}: seed {seed} failed\n{text}", flush=True)
                if failures_count >= FAILURES_MAX:
                    pool.shutdown(cancel_futures=True)
                    print(f"{name}: gave up after {done} seeds, {failures_count} of which failed")
                    return 1
            took_s = time.monotonic() - began_s
            print(f"{name}: {done} seeds in {took_s:.0f} s, {failures_count} failed", flush=True)
    return 1 if failures_count else 0


if __name__ == "__main__":
    sys.exit(main())
