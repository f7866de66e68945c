"""Two counters of work that need no clock: bytecodes of Python, and instructions of the processor.

Both count what the thread that starts them does, and nothing else: neither other threads, nor the kernel, nor
time spent waiting. So they say the same on a machine that is busy.

`Bytecodes` counts what the interpreter executes, by function. It works everywhere, and depends on the version
of Python alone.

`Instructions` has the processor trap after each instruction (x86-64's trap flag) and counts the traps. It
sees compiled code too, and needs no permission, no performance counters and no other program: where one may
run machine code, one may count it. An instruction takes some microseconds meanwhile.
"""

from __future__ import annotations

import bisect
import ctypes
import gc
import mmap
import platform
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, Protocol

#: Frames of these files are the measuring code's own.
OWN_FILES = ("counters.py", "path_counts.py", "path_operations.py")
#: What starts and ends a count is called through these.
OWN_LIBRARIES = ("_ctypes", "libffi")
#: Enough for some hundred calls.
PLACES_MAX = 1 << 21
MONITORING: Any = getattr(sys, "monitoring", None)

#: The counter of a worker, and what it had counted at each mark.
active: Count | None = None
marks: list[int] = []


class Count(Protocol):
    """What both counters do."""

    def start(self) -> None:
        """Count what this thread does from here on."""

    def stop(self) -> None:
        """Count no more."""

    def now(self) -> int:
        """How many there were."""

    def take(self) -> Counter[str]:
        """How many there were in which function, since this was asked last."""


def make(kind: str) -> Count:
    """`bytecodes`, `instructions`, or `places`: instructions that remember where they were."""
    if kind == "bytecodes":
        return Bytecodes()
    return Instructions(PLACES_MAX if kind == "places" else 0)


def run(count: Count, function: Callable[[], Any]) -> tuple[int, Any]:
    """How many a call of ``function`` takes, and what it returned."""
    start, stop = count.start, count.stop
    gc.collect()
    gc.disable()
    before = count.now()
    # Called with `*`: a plain call adapts itself to what it calls, and costs now this and now that.
    start(*())
    try:
        result = function(*())
    finally:
        stop(*())
        gc.enable()
    return count.now() - before, result


class Bytecodes:
    """Counts the bytecodes that the calling thread executes, in functions that are not this program's own.

    With the tracing hook; from Python 3.12 on with `sys.monitoring`, as the hook of 3.13 misses some.
    """

    def __init__(self) -> None:
        self._by_code: Counter[CodeType] = Counter()
        self._outer: list[FrameType] = []
        self._thread = 0
        if MONITORING is not None:
            if MONITORING.get_tool(MONITORING.PROFILER_ID) is None:
                MONITORING.use_tool_id(MONITORING.PROFILER_ID, "counters")
            MONITORING.register_callback(
                MONITORING.PROFILER_ID, MONITORING.events.INSTRUCTION, self._instruction
            )

    def start(self) -> None:
        if MONITORING is not None:
            self._thread = get_ident()
            MONITORING.set_events(MONITORING.PROFILER_ID, MONITORING.events.INSTRUCTION)
            return
        # In this frame's callers too, when control comes back to them.
        frame: FrameType | None = sys._getframe().f_back
        while frame is not None:
            if not _is_own(frame.f_code):
                frame.f_trace_opcodes = True
                frame.f_trace = self._step
                self._outer.append(frame)
            frame = frame.f_back
        sys.settrace(self._enter)

    def stop(self) -> None:
        if MONITORING is not None:
            MONITORING.set_events(MONITORING.PROFILER_ID, 0)
            return
        sys.settrace(None)
        for frame in self._outer:
            frame.f_trace = None
            frame.f_trace_opcodes = False
        self._outer.clear()

    def now(self) -> int:
        return sum(self._by_code.values())

    def take(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for code, number in self._by_code.items():
            found[f"{_short(code.co_filename)}: {getattr(code, 'co_qualname', code.co_name)}"] += number
        self._by_code.clear()
        return found

    def _instruction(self, code: CodeType, offset: int) -> None:
        if get_ident() == self._thread and not _is_own(code):
            self._by_code[code] += 1

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        if _is_own(frame.f_code):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            self._by_code[frame.f_code] += 1
        return self._step


def _is_own(code: CodeType) -> bool:
    return code.co_filename.rpartition("/")[2] in OWN_FILES


def _short(path: str) -> str:
    """From the package on: where it is installed is nobody's business."""
    for package in ("orchestrator", "plasma"):
        _, found, rest = path.rpartition(f"/{package}/")
        if found:
            return f"{package}/{rest}"
    return path.rpartition("/")[2]


class _SignalAction(ctypes.Structure):
    """glibc's `struct sigaction` on Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Instructions:
    """Counts the instructions that the calling thread executes in user space. Only the last one made counts.

    ``places_max``: how many of their addresses to remember, for `take`; the count goes on beyond.

    Raises:
        RuntimeError: not here; `available` tells.
    """

    _FLAGS = 0x40000000 | 0x10000000 | 4  # SA_NODEFER, SA_RESTART, SA_SIGINFO
    #: pushf; or/and the trap flag, bit 8, in the copy on the stack; popf; ret
    _ON = bytes.fromhex("9c 48810c2400010000 9d c3")
    _OFF = bytes.fromhex("9c 48812424fffeffff 9d c3")

    def __init__(self, places_max: int = 0) -> None:
        if platform.machine() != "x86_64" or sys.platform != "linux":
            raise RuntimeError("instructions are counted on Linux and x86-64 only")
        #: the count; how many places there is room for; the places
        self._state = (ctypes.c_uint64 * (2 + places_max))()
        self._state[1] = places_max
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        handler = self._handler(ctypes.addressof(self._state))
        for offset, code in ((0, handler), (256, self._ON), (512, self._OFF)):
            self._page[offset : offset + len(code)] = code
        procedure = ctypes.PYFUNCTYPE(None)
        self.start: Callable[[], None] = procedure(start + 256)
        self.stop: Callable[[], None] = procedure(start + 512)
        action = _SignalAction(handler=start, flags=self._FLAGS)
        if ctypes.CDLL(None).sigaction(int(signal.SIGTRAP), ctypes.byref(action), None):
            raise RuntimeError("no handler for SIGTRAP")

    @staticmethod
    def available() -> bool:
        """Whether instructions can be counted here: not on other processors, nor where one is emulated."""
        try:
            return run(Instructions(), list)[0] > 0
        except (RuntimeError, OSError):
            return False

    @staticmethod
    def _handler(state: int) -> bytes:
        """void handler(int, siginfo_t *, ucontext_t *): count, and note the place if there is room."""
        return b"".join(
            (
                b"\x48\xb8" + struct.pack("<Q", state),  # mov rax, state
                b"\x48\x8b\x08",  # mov rcx, [rax]
                b"\x48\xff\x00",  # inc qword [rax]
                b"\x48\x3b\x48\x08",  # cmp rcx, [rax + 8]
                b"\x73\x0c",  # jae end
                b"\x48\x8b\x92\xa8\x00\x00\x00",  # mov rdx, [rdx + 168]: the context's rip
                b"\x48\x89\x54\xc8\x10",  # mov [rax + 8 * rcx + 16], rdx
                b"\xc3",  # end: ret
            )
        )

    def now(self) -> int:
        return self._state[0]

    def take(self) -> Counter[str]:
        number = min(self._state[0], self._state[1])
        addresses = Counter(self._state[2 : 2 + number])
        self._state[0] = 0
        return _functions_at(addresses)


def _functions_at(addresses: Counter[int]) -> Counter[str]:
    """Which functions of which libraries these are, as far as those name them."""
    found: Counter[str] = Counter()
    maps = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split()
        low, high = (int(part, 16) for part in span.split("-"))
        maps.append((low, high, int(offset, 16), path[0] if path else "?"))
    starts = [one[0] for one in maps]
    symbols: dict[str, tuple[list[int], list[str]]] = {}
    for address, number in addresses.items():
        low, high, offset, path = maps[max(0, bisect.bisect_right(starts, address) - 1)]
        if not low <= address < high:
            path = "?"
        library = Path(path).name.partition(".")[0]
        if library in OWN_LIBRARIES:
            continue
        if path not in symbols:
            symbols[path] = _symbols_of(path)
        values, names = symbols[path]
        at = bisect.bisect_right(values, address - low + offset) - 1
        found[f"{library}: {names[at]}" if at >= 0 else library] += number
    return found


def _symbols_of(path: str) -> tuple[list[int], list[str]]:
    """Offsets in the file and names of a library's functions; none of one that has been stripped.

    What such a library exports is no help: most of its functions lie between the names of others.
    """
    try:
        text = subprocess.run(["nm", "-n", path], capture_output=True, text=True).stdout
    except OSError:
        text = ""
    lines = [line.split() for line in text.splitlines()]
    pairs = [(int(line[0], 16), line[2]) for line in lines if len(line) == 3 and line[1] in "tTwWiI"]
    return [value for value, _ in pairs], [name for _, name in pairs]
