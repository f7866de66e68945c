"""How many threads the numerical libraries of this process use.

Workers run side by side, so each starts with one thread per library. A task or actor with `num_cpus=4` gets
four: by the environment, for libraries that are loaded later, and by a call into those that are loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

#: Part of a loaded library's file name, and the functions it may have for the purpose. (Not libgomp and its
#: like: what they set holds for the calling thread, and torch, which uses them, is asked itself.)
_SETTERS = {
    "openblas": (
        "scipy_openblas_set_num_threads64_",
        "scipy_openblas_set_num_threads",
        "openblas_set_num_threads64_",
        "openblas_set_num_threads",
    ),
    "mkl_rt": ("MKL_Set_Num_Threads",),
    "blis": ("bli_thread_set_num_threads",),
}


class LibraryThreads:
    """The number of threads, and the ways to change it. `ours` are the variables that the session has set."""

    def __init__(self, ours: list[str]) -> None:
        self._ours = ours
        self._setters: dict[str, Callable[[int], object]] = {}
        #: number of modules when the libraries were last looked for: an import may have brought one
        self._modules = 0
        self.count = 1

    def set(self, count: int) -> None:
        """Have each library use `count` threads; what the user has set in the environment is left alone."""
        if count == self.count or "OMP_NUM_THREADS" not in self._ours:
            return
        before, self.count = str(self.count), count
        if os.environ.get("OMP_NUM_THREADS") != before:
            return  # somebody else has decided: the runtime environment, or code that ran here
        for variable in self._ours:
            if os.environ.get(variable) == before:
                os.environ[variable] = str(count)
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            for path in _loaded_libraries():
                if path not in self._setters:
                    self._setters[path] = _setter_of(path)
        for setter in self._setters.values():
            setter(count)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(count)
        numexpr = sys.modules.get("numexpr")
        if numexpr is not None:
            numexpr.set_num_threads(count)


def _loaded_libraries() -> list[str]:
    found: dict[str, None] = {}
    with open("/proc/self/maps") as file:
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            name = path.rpartition("/")[2]
            if ".so" in name and any(part in name for part in _SETTERS):
                found["/" + path] = None
    return list(found)


def _setter_of(path: str) -> Callable[[int], object]:
    name = path.rpartition("/")[2]
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return lambda count: None  # the file has been replaced or removed
    for part, functions in _SETTERS.items():
        if part in name:
            for function in functions:
                if hasattr(library, function):
                    return getattr(library, function)  # type: ignore[no-any-return]
    return lambda count: None
