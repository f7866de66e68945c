"""plasma alone: programs that know nothing of each other share numpy arrays, without a copy or a runtime.

    python examples/shared_arrays.py

starts three processes. Each could as well be started by hand, in a terminal of its own:

    python -m plasma serve DIR/store --size 512M        # keeps the memory
    python examples/shared_arrays.py write DIR/store    # makes pictures, in it
    python examples/shared_arrays.py read DIR/store     # looks at them, there

All they have in common is the path of the store and the names of the objects. DIR must be yours alone (mode
0700).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import plasma
from plasma.arrays import empty
from plasma.object_id import derive

FRAMES = 8
#: A 4K picture in colour, 25 MB.
SHAPE = (2160, 3840, 3)


def name_of(frame: int) -> bytes:
    """The id that both sides agree on."""
    return derive(f"frame {frame}".encode())


def write(path: str) -> None:
    """Fills arrays that lie in the store from the start, so that putting them copies nothing."""
    with plasma.connect(path) as store:
        for frame in range(FRAMES):
            picture = empty(store, SHAPE, np.uint8, object_id=name_of(frame))
            picture[:] = frame
            began = time.perf_counter()
            store.put(picture)  # seals it: all can see it from now on, and nobody can change it
            print(f"write: frame {frame} was put in {microseconds_since(began):.0f} µs", flush=True)


def read(path: str) -> None:
    """Waits for each picture, and looks at it where it is."""
    with plasma.connect(path) as store:
        for frame in range(FRAMES):
            store.get(name_of(frame), timeout_s=30)  # until somebody has put it
            began = time.perf_counter()
            picture = store.load(name_of(frame))
            got_us = microseconds_since(began)
            assert not picture.flags.writeable
            print(
                f"read:  frame {frame}, {picture.nbytes / 1e6:.0f} MB got in {got_us:.0f} µs, "
                f"its pixels are {picture[0, 0, 0]} to {picture[-1, -1, -1]}",
                flush=True,
            )


def microseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e6


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] in ("write", "read"):
        {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
        return 0
    if len(sys.argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="shared-arrays-") as directory:
        path = str(Path(directory) / "store")
        serve = [sys.executable, "-m", "plasma", "serve", path, "--size", "512M"]
        # In a checkout, `-m` would find the sources that lie there instead of what is installed.
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=directory) as server:
            try:
                assert server.stdout is not None
                ready = server.stdout.readline()  # it says so when it is
                print(ready, end="")
                if not ready:
                    return server.wait()
                # The reader is started first, and waits.
                programs = [
                    subprocess.Popen([sys.executable, __file__, role, path]) for role in ("read", "write")
                ]
                return max(program.wait() for program in programs)
            finally:
                server.terminate()


if __name__ == "__main__":
    sys.exit(main())
