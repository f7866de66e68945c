"""Arrays are shared between processes, not copied."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core.runtime import require

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


def where(array):
    """Where an array's memory is: (device and inode of the mapped file, offset in it)."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, device, inode, *_ = line.split()
        low, high = (int(part, 16) for part in span.split("-"))
        if low <= address < high:
            return (device, inode), int(offset, 16) + address - low
    raise AssertionError("not mapped")


@ray.remote
def look(array):
    return where(array), array.flags.writeable, float(array[0])


class TestOneCopyForAll:
    @pytest.mark.not_inline("looks for shared pages")
    def test_several_workers_see_the_same_pages(self):
        ref = ray.put(np.full(1_000_000, 7.0))
        here = where(ray.get(ref))
        assert ray.get([look.remote(ref) for _ in range(4)]) == [(here, False, 7.0)] * 4

    def test_nobody_can_write_to_them(self):
        array = ray.get(ray.put(np.zeros(1000)))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1

    @pytest.mark.not_inline("looks for shared pages")
    def test_a_worker_result_is_read_where_it_was_put(self):
        @ray.remote
        def make():
            return np.arange(1_000_000)

        ref = make.remote()
        assert where(ray.get(ref)) == where(ray.get(ref))

    @pytest.mark.not_inline("looks for shared pages")
    def test_inside_other_values(self):
        ref = ray.put({"a": np.ones(200_000), "b": [np.zeros(200_000)]})
        assert where(ray.get(ref)["a"]) == where(ray.get(ref)["a"])


class TestFreedAtOnce:
    def used(self):
        return require().store.stats()["used_bytes"]

    def test_with_the_last_reference(self):
        gc.collect()
        before = self.used()
        ref = ray.put(np.zeros(10_000_000))
        assert self.used() > before + 79_000_000
        del ref
        assert self.used() <= before + 4096

    @pytest.mark.not_inline("views keep the heap's memory, which nobody counts")
    def test_a_view_keeps_it_until_the_view_is_gone(self):
        gc.collect()
        before = self.used()
        ref = ray.put(np.ones(10_000_000))
        tail = ray.get(ref)[-10:]
        del ref
        assert self.used() > before + 79_000_000
        assert tail.sum() == 10
        del tail
        assert self.used() <= before + 4096

    def test_a_reference_inside_an_object_keeps_it(self):
        gc.collect()
        before = self.used()
        outer = ray.put([ray.put(np.ones(10_000_000))])
        assert ray.get(ray.get(outer)[0]).sum() == 10_000_000
        assert self.used() > before + 79_000_000
        del outer
        assert self.used() <= before + 4096

    def test_arguments_and_results_of_tasks(self):
        gc.collect()
        ray.get(look.remote(np.ones(10)))
        before = self.used()
        for _ in range(5):
            ray.get(look.remote(np.ones(1_000_000)))
        assert self.used() <= before + 1_000_000
