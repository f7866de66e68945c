"""All benchmarks, one after another, beside every peer that is installed (``make bench``)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from harness import DATE_VARIABLE, HERE, today

BENCHMARKS = {
    "microbenchmark.py": "ray,multiprocessing,concurrent,loky,joblib,dask",
    "startup.py": "ray,multiprocessing,concurrent,loky,dask",
    "numpy_reads.py": "ray,pipe,shared_memory,memmap",
    "store_growth.py": "ray,shared_memory",
    "task_growth.py": "ray,joblib",
    "actor_growth.py": "ray",
    "latency.py": "ray",
    "graphs.py": "ray",
    "remote_calls.py": "ray",
    "scheduler_sim.py": "",
    "transfer.py": "ray,sendfile",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="shorter windows and fewer rounds: no claim rests on it"
    )
    parser.add_argument("--rounds", type=int, help="how often each side takes its turn")
    arguments = parser.parse_args()
    options = ["--quick"] if arguments.quick else []
    if arguments.rounds:
        options += ["--rounds", str(arguments.rounds)]
    os.environ[DATE_VARIABLE] = today()
    failed = []
    for script, peers in BENCHMARKS.items():
        print(f"== {script}", flush=True)
        if subprocess.run([sys.executable, str(HERE / script), "--vs", peers, *options]).returncode:
            failed.append(script)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
