"""The reference table for people: each object, how large it is, and what keeps it alive."""

from __future__ import annotations

from orchestrator.util.state.listing import LIMIT_MAX, TIMEOUT_S, rows_of
from orchestrator.util.state.records import ObjectState

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_GROUPS = {"NODE_ADDRESS": "ip", "STACK_TRACE": "call_site"}
_SORTS = {"PID": "pid", "OBJECT_SIZE": "object_size", "REFERENCE_TYPE": "reference_type"}
_COLUMNS = ("Object", "Size", "Reference type", "Held by", "Owner", "Task", "Place", "Call site")


def memory_summary(
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """Return a table of what keeps each object alive, as text.

    Args:
        group_by: "NODE_ADDRESS", or "STACK_TRACE" for the lines that made the references.
        sort_by: "OBJECT_SIZE" (largest first), "PID" or "REFERENCE_TYPE".
        units: "B", "KB", "MB" or "GB".
        stats_only: leave the single rows out.
        num_entries: at most so many rows a group.

    Raises:
        ValueError: an argument is none of those.
    """
    for name, value, known in (
        ("group_by", group_by, _GROUPS),
        ("sort_by", sort_by, _SORTS),
        ("units", units, _UNITS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    rows = rows_of(ObjectState, None, LIMIT_MAX, TIMEOUT_S, True, False)
    rows.sort(key=lambda row: row[_SORTS[sort_by]], reverse=sort_by == "OBJECT_SIZE")
    groups: dict[str, list[ObjectState]] = {}
    for row in rows:
        groups.setdefault(row[_GROUPS[group_by]] or "(not recorded)", []).append(row)
    lines = []
    for name, group in groups.items():
        lines += [f"--- {name} ---", _totals(group, units)]
        if not stats_only:
            lines += _table(group[:num_entries], units)
            if num_entries is not None and len(group) > num_entries:
                lines.append(f"... and {len(group) - num_entries} more")
        lines.append("")
    return "\n".join(lines) or "no objects\n"


def _size(size_bytes: int, units: str) -> str:
    return f"{size_bytes} B" if units == "B" else f"{size_bytes / _UNITS[units]:.3f} {units}"


def _totals(group: list[ObjectState], units: str) -> str:
    parts = []
    for kind in sorted({row.reference_type for row in group}):
        sizes = {row.object_id: row.object_size for row in group if row.reference_type == kind}
        parts.append(f"{kind}: {len(sizes)} objects, {_size(sum(sizes.values()), units)}")
    return "; ".join(parts)


def _table(group: list[ObjectState], units: str) -> list[str]:
    cells = [_COLUMNS] + [
        (
            row.object_id,
            _size(row.object_size, units),
            row.reference_type,
            f"object {row.contained_in}" if row.contained_in else f"{row.type.lower()} {row.pid}",
            str(row.owner_pid or "gone"),
            row.task_status,
            row.place,
            row.call_site,
        )
        for row in group
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
