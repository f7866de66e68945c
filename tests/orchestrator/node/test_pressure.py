from __future__ import annotations

from pathlib import Path

from orchestrator.node.pressure import REPEAT_S, PressureRelief, available_share
from plasma import object_id as ids
from plasma.testing import temporary_store


def meminfo(path: Path, available_kb: int) -> str:
    path.write_text(f"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {available_kb} kB\n")
    return str(path)


def test_free_pages_go_back_when_memory_is_short_and_not_before(tmp_path: Path) -> None:
    with temporary_store() as store:
        object_id = ids.new()
        store.put_parts(object_id, [bytes(8 << 20)])
        store.delete(object_id)
        path = tmp_path / "meminfo"
        relief = PressureRelief(store, meminfo(path, 500))
        assert relief.relieve(100.0) == 0
        meminfo(path, 50)
        assert relief.relieve(100.0 + REPEAT_S / 2) == 0, "it has just looked"
        assert relief.relieve(100.0 + REPEAT_S) >= 8 << 20
        store.put_parts(object_id, [b"still works"])
        assert bytes(store.get(object_id, 0)) == b"still works"


def test_a_kernel_that_does_not_say_is_not_short_of_memory() -> None:
    assert available_share("") == available_share("MemTotal: 5 kB\nMemAvailable: plenty\n") == 1.0
