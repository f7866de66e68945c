"""Run the suite against the installed wheel: the interpreter's own packages, never the checkout's.

    .venv-test/bin/python tools/run_tests.py [pytest arguments]

The tests run in a directory that has links to tests/, examples/ and the configuration, but none to plasma/
and orchestrator/: no test, worker or subprocess can pick up the sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("tests", "examples", "benchmarks", "docs", "pyproject.toml")


def main() -> int:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory(prefix="plasma-tests-") as stage:
        for name in LINKED:
            if (ROOT / name).exists():
                os.symlink(ROOT / name, Path(stage, name))
        where = subprocess.run(
            [
                sys.executable,
                "-c",
                "import plasma, orchestrator; print(plasma.__file__, orchestrator.__file__)",
            ],
            cwd=stage,
            env=environment,
            capture_output=True,
            text=True,
        )
        if where.returncode:
            print(where.stderr, file=sys.stderr)
            return where.returncode
        outside = [path for path in where.stdout.split() if not Path(path).is_relative_to(sys.prefix)]
        if outside:
            print(f"not the installed packages: {', '.join(outside)}", file=sys.stderr)
            return 1
        return subprocess.run(
            [sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=stage, env=environment
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
