"""Tables: for people on a terminal, and lines of columns for everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

#: Text in one cell, where the output is a terminal.
_CELL_CHARS_MAX = 60


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Show rows below the names of their columns."""
    cells = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in columns:
            table.add_column(name, no_wrap=True)
        for row in cells:
            table.add_row(*(Text(cell[:_CELL_CHARS_MAX]) for cell in row))
        Console().print(table)
        return
    lines = [list(columns), *cells]
    widths = [max(len(row[i]) for row in lines) for i in range(len(columns))]
    for row in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size_text(size_bytes: float) -> str:
    """Return a size for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            return f"{size_bytes:.1f} {unit}" if unit != "B" else f"{size_bytes:.0f} B"
        size_bytes /= 1024
    raise AssertionError


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("\n", " ")
