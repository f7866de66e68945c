"""Tensors of torch and tables of Arrow lie in the store as their bytes: copied once, when they are stored."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from plasma import Store
from plasma.testing import temporary_store

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store(256 * MIB) as store:
        yield store


def private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch", reason="torch isn't installed")

    @pytest.mark.parametrize(
        "name",
        ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int64", "bool", "complex64"],
    )
    @pytest.mark.parametrize("count", [12, 120_000], ids=["small", "large"])
    def test_every_type_comes_back(self, store, torch, name, count):
        tensor = torch.arange(count).reshape(3, 4, -1).to(getattr(torch, name))
        again = store.load(store.put(tensor))
        assert again.dtype == tensor.dtype and again.shape == tensor.shape
        assert torch.equal(again, tensor)

    def test_nothing_is_copied_until_it_is_written_to(self, store, torch):
        tensor = torch.zeros(64 * MIB // 4)
        object_id = store.put({"weights": tensor})
        gc.collect()
        before = private_bytes()
        again = store.load(object_id)["weights"]
        assert float(again.sum()) == 0
        assert private_bytes() - before < 0.05 * 64 * MIB

    def test_what_is_written_nobody_else_sees(self, store, torch):
        object_id = store.put(torch.zeros(MIB))
        mine = store.load(object_id)
        mine += 1
        assert float(mine.sum()) == MIB
        assert float(store.load(object_id).sum()) == 0

    def test_a_tensor_pins_its_object(self, store, torch):
        object_id = store.put(torch.ones(MIB))
        tensor = store.load(object_id)
        store.delete(object_id)
        for _ in range(100):
            store.put(torch.zeros(MIB))
        assert float(tensor.sum()) == MIB
        assert store.stats()["objects_pinned"] == 1
        del tensor
        gc.collect()
        assert store.stats()["objects_pinned"] == 0

    def test_parameters_and_gradients(self, store, torch):
        leaf = torch.ones(5, requires_grad=True)
        again = store.load(store.put(leaf))
        assert again.requires_grad and again.is_leaf
        parameter = store.load(store.put(torch.nn.Parameter(torch.ones(100_000))))
        assert type(parameter) is torch.nn.Parameter and parameter.requires_grad
        module = torch.nn.Linear(300, 300)
        loaded = store.load(store.put(module))
        assert torch.equal(loaded.weight, module.weight)
        loaded(torch.ones(300)).sum().backward()
        assert loaded.weight.grad is not None

    def test_what_numpy_could_not_describe_is_left_to_torch(self, store, torch):
        for tensor in (
            torch.eye(3).to_sparse(),
            torch.ones(4, 4).t()[1:],
            torch.empty(0, 3),
            torch.tensor(5.0),
            torch.ones(3, 3).transpose(0, 1),
        ):
            again = store.load(store.put(tensor))
            assert torch.equal(again.to_dense(), tensor.to_dense())


class TestArrow:
    @pytest.fixture(autouse=True)
    def pyarrow(self):
        return pytest.importorskip("pyarrow", reason="pyarrow isn't installed")

    def test_a_table_is_a_view_of_the_store(self, store, pyarrow):
        table = pyarrow.table({"number": range(4 * MIB), "half": [1.5] * (4 * MIB)})
        object_id = store.put(table)
        before = pyarrow.total_allocated_bytes()
        again = store.load(object_id)
        assert again.equals(table)
        assert pyarrow.total_allocated_bytes() - before < MIB
        assert store.stats()["objects_pinned"] == 1
        del again
        gc.collect()
        assert store.stats()["objects_pinned"] == 0

    def test_record_batches_arrays_and_strings(self, store, pyarrow):
        batch = pyarrow.record_batch({"text": ["a", None, "ccc"] * 10_000})
        assert store.load(store.put(batch)).equals(batch)
        array = pyarrow.array([[1, 2], [], None] * 1000)
        assert store.load(store.put([array]))[0].equals(array)
