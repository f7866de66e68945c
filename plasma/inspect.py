"""What is in a store, for people: a report, as tables on a terminal and as aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from plasma.store import ObjectInfo, Store

__all__ = ["Report", "Table", "report", "show"]


@dataclass(frozen=True)
class Table:
    """A titled table of texts; columns named in ``numeric`` are set to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Report:
    """The result of looking at a store."""

    #: every byte is free or owned by exactly one object, and all counts add up
    sound: bool
    #: what isn't, one sentence each
    problems: Sequence[str]
    tables: Sequence[Table] = field(default_factory=tuple)


def format_size(size_bytes: int) -> str:
    """``1536`` → ``"1.5 KiB"``."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def report(store: Store, *, largest_count: int = 10) -> Report:
    """Look at ``store``. The audit holds all its locks for a moment, so everybody else pauses for as long."""
    audit = store.audit()
    objects = store.list()
    stats = store.stats()
    tables = (
        _usage(stats, audit.channels),
        _clients(store),
        _states(objects),
        _largest(objects, largest_count),
        Table("Since it was made", ("", "value"), [(name, str(stats[name])) for name in _EVER], _RIGHT),
    )
    return Report(audit.ok, audit.problems, [table for table in tables if table.rows])


#: what ``Store.stats`` counts from the store's first moment on
_EVER = (
    "clients_ever",
    "reaped",
    "allocations",
    "frees",
    "evictions",
    "spilled_ever",
    "restored_ever",
    "repairs",
    "allocator_rebuilds",
)

_RIGHT = frozenset({"value", "size", "pins", "references", "bytes", "objects", "pid", "address"})


def _usage(stats: dict[str, int], channels: int) -> Table:
    total, free, largest = stats["data_bytes"], stats["free_bytes"], stats["largest_free_bytes"]
    scattered = (free - largest) / free if free else 0.0
    rows = [
        ("size", format_size(total)),
        ("used", f"{format_size(stats['used_bytes'])} ({stats['used_bytes'] / total:.0%})"),
        ("free", f"{format_size(free)}, the largest stretch {format_size(largest)}"),
        ("fragmentation", f"{scattered:.0%} of the free bytes lie outside the largest stretch"),
        ("pages touched", format_size(stats["touched_bytes"])),
        ("objects", f"{stats['objects']} of {stats['objects_max']}"),
        ("  pinned", str(stats["objects_pinned"])),
        ("  referenced", str(stats["objects_referenced"])),
        ("  kept", str(stats["objects_kept"])),
        ("  evictable", str(stats["objects_evictable"])),
        ("clients", str(stats["clients"])),
        ("channels", str(channels)),
    ]
    if stats["objects_spilled"]:
        rows.append(("on disk", f"{stats['objects_spilled']} objects, {format_size(stats['spilled_bytes'])}"))
    return Table("Store", ("", ""), rows)


def _clients(store: Store) -> Table:
    rows = [
        (
            str(client["address"]),
            str(client["pid"]),
            str(client["name"]).rstrip("\0"),
            f"{client['state']}, agent" if client["agent"] else str(client["state"]),
        )
        for client in store.clients()
        if client["address"] != store.address  # the one who looks
    ]
    return Table("Clients", ("address", "pid", "name", "state"), rows, _RIGHT)


def _states(objects: Iterable[ObjectInfo]) -> Table:
    totals: dict[str, tuple[int, int]] = {}
    for info in objects:
        count, size_bytes = totals.get(info.state, (0, 0))
        totals[info.state] = (count + 1, size_bytes + info.size_bytes)
    rows = [(state, str(count), format_size(size)) for state, (count, size) in sorted(totals.items())]
    return Table("Objects by state", ("state", "objects", "bytes"), rows, _RIGHT)


def _largest(objects: Iterable[ObjectInfo], count: int) -> Table:
    largest = sorted(objects, key=lambda info: info.size_bytes, reverse=True)[:count]
    rows = [
        (info.object_id.hex(), info.state, format_size(info.size_bytes), str(info.pins), str(info.refs))
        for info in largest
    ]
    return Table("Largest objects", ("id", "state", "size", "pins", "references"), rows, _RIGHT)


# ---------------------------------------------------------------------------------------- output


def show(result: Report, *, plain: bool = False, file: TextIO | None = None) -> None:
    """Print a report to ``file`` (standard output): rich tables on a terminal unless ``plain``, else text."""
    out = sys.stdout if file is None else file
    if not plain and out.isatty():
        try:
            _show_rich(result, out)
            return
        except ImportError:  # rich is optional
            pass
    out.write(_as_text(result))


def _verdict(result: Report) -> str:
    return "sound" if result.sound else f"DAMAGED: {len(result.problems)} problem(s)"


def _as_text(result: Report) -> str:
    lines: list[str] = []
    for table in result.tables:
        lines += [table.title, *_text_rows(table), ""]
    lines += [f"audit: {_verdict(result)}", *(f"  {problem}" for problem in result.problems)]
    return "\n".join(lines) + "\n"


def _text_rows(table: Table) -> Iterable[str]:
    head = [list(table.columns)] if any(table.columns) else []
    cells = [*head, *map(list, table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    for row in cells:
        aligned = [
            cell.rjust(width) if name in table.numeric else cell.ljust(width)
            for cell, width, name in zip(row, widths, table.columns, strict=True)
        ]
        yield "  " + "  ".join(aligned).rstrip()


def _show_rich(result: Report, out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=out)
    for table in result.tables:
        rich_table = RichTable(title=table.title, title_justify="left", show_header=any(table.columns))
        for name in table.columns:
            rich_table.add_column(name, justify="right" if name in table.numeric else "left")
        for row in table.rows:
            rich_table.add_row(*map(Text, row))
        console.print(rich_table)
    console.print("audit:", Text(_verdict(result), style="green" if result.sound else "bold red"))
    for problem in result.problems:
        console.print(Text(f"  {problem}"))
