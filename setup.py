"""Builds plasma's extensions: every ``plasma/*.pyx`` becomes the module ``plasma.<name>``.

All that is static is in ``pyproject.toml``; here is what needs code: the list of extensions, their flags,
and the debug build. ``PLASMA_DEBUG=1`` compiles with ``-DPLASMA_DEBUG`` (counters and invariant checks),
optimised little and with symbols.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if not sys.platform.startswith("linux"):
    raise SystemExit(
        f"plasma-orchestrator needs Linux (memfd, futexes, robust mutexes); this is {sys.platform!r}. "
        "On macOS or Windows, use it in a Linux container or virtual machine."
    )

DEBUG = os.environ.get("PLASMA_DEBUG", "") not in ("", "0")
HEADERS = "plasma/_c"
GLIBC_COMPAT = f"{HEADERS}/glibc_compat.h"

DIRECTIVES = {
    "language_level": 3,
    # Indices and divisors in the core are checked where they enter it, once, with an error that says more.
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}

COMPILE_ARGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-pthread",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    # Symbol versions of glibc 2.28 or older, whatever the builder's own glibc is.
    "-include",
    GLIBC_COMPAT,
    "-Wall",
    "-Wextra",
    # Generated code has parameters and static helpers that a module happens not to use.
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
    *(
        # -UNDEBUG brings assert() back, which the interpreter's own flags switch off.
        ["-O1", "-g", "-UNDEBUG", "-DPLASMA_DEBUG"]
        if DEBUG
        # Some distributions predefine _FORTIFY_SOURCE; defining it twice would be a warning.
        else ["-O2", "-g0", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    ),
]
LINK_ARGS = ["-pthread", "-Wl,-z,relro,-z,now", *([] if DEBUG else ["-Wl,-s"])]


def extensions() -> list[Extension]:
    headers = sorted(map(str, Path(HEADERS).glob("*.h")))
    return [
        Extension(
            f"plasma.{source.stem}",
            [str(source)],
            include_dirs=[HEADERS, "."],
            depends=headers,
            extra_compile_args=COMPILE_ARGS,
            extra_link_args=LINK_ARGS,
        )
        for source in sorted(Path("plasma").glob("*.pyx"))
    ]


class BuildExtensions(build_ext):
    """Cython to C (in build/cython) to shared objects, on all cores, and all again when the flags changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1

    def build_extensions(self) -> None:
        # Imported here: reading the metadata (pip, sdist) needs no Cython.
        from Cython.Build import cythonize

        # A time stamp alone can't tell a debug object from a release one; one file for each place they go to.
        flags = Path(self.build_temp, "flags-inplace.txt" if self.inplace else "flags.txt")
        wanted = repr((COMPILE_ARGS, LINK_ARGS, DIRECTIVES))
        if not flags.exists() or flags.read_text() != wanted:
            self.force = True
        translated = cythonize(
            self.extensions,
            compiler_directives=DIRECTIVES,
            build_dir="build/cython",
            nthreads=self.parallel,
            force=self.force or None,
            quiet=True,
        )
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().build_extensions()
        flags.parent.mkdir(parents=True, exist_ok=True)
        flags.write_text(wanted)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
