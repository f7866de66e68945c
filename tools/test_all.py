"""`make suite` on every CPython from 3.10 to 3.13 that is installed, each with environments of its own.

python3 tools/test_all.py [pytest arguments]
python3 tools/test_all.py --target record-counts
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
#: Says the version, and fails where a launcher (pyenv's) stands for an interpreter that is not there.
PROBE = "import sys, venv, platform; print(platform.python_implementation(), '%d.%d' % sys.version_info[:2])"


def candidates(version: str) -> list[str]:
    found = [shutil.which(f"python{version}")]
    pyenv_root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found += sorted(map(str, pyenv_root.glob(f"versions/{version}.*/bin/python{version}")), reverse=True)
    return [path for path in found if path]


def interpreter(version: str) -> str | None:
    for path in candidates(version):
        probe = subprocess.run([path, "-c", PROBE], capture_output=True, text=True)
        if probe.returncode == 0 and probe.stdout.split() == ["CPython", version]:
            return path
    return None


def main() -> int:
    arguments = sys.argv[1:]
    target = arguments[1] if arguments[:1] == ["--target"] else "suite"
    failed, passed = [], []
    for version in VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"== {version}: not installed")
            continue
        print(f"== {version}: {python}", flush=True)
        command = ["make", "--no-print-directory", target, f"PYTHON={python}"]
        command += [f"VENV=.venv-py{version}", f"VENV_TEST=.venv-py{version}-test"]
        if target == "suite":
            command += [f"TEST_ARGS={' '.join(arguments)}"]
        (failed if subprocess.run(command, cwd=ROOT).returncode else passed).append(version)
    print(f"== passed: {', '.join(passed) or 'none'}; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
