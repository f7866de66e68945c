"""The package's face: a default store for scripts, and an import that is light and says what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import plasma
from plasma.testing import temporary_store


@pytest.fixture
def store():
    with temporary_store() as store:
        before = plasma.use(store)
        yield store
        plasma.use(before)


def test_put_get_and_empty_work_on_the_default_store(store):
    array = plasma.empty((2, 2), "f4")
    array[:] = 1
    object_id = plasma.put({"a": 1})
    assert plasma.get(object_id) == store.load(object_id) == {"a": 1}
    assert plasma.get(plasma.put(array)).sum() == 4


def test_without_a_default_store_there_is_a_clear_error():
    assert plasma.use(None) is None
    for action in (lambda: plasma.put(1), lambda: plasma.get(bytes(16)), lambda: plasma.empty(1)):
        with pytest.raises(plasma.UsageError, match=r"plasma\.connect"):
            action()


def test_a_closed_store_is_no_default_store():
    with temporary_store() as store:
        plasma.use(store)
    with pytest.raises(plasma.UsageError, match="no default store"):
        plasma.put(1)
    assert plasma.use(None) is store


def test_importing_needs_neither_numpy_nor_the_server():
    code = (
        "import sys, plasma\n"
        "heavy = {'numpy', 'cloudpickle', 'socket', 'logging', 'selectors', 'asyncio', 'rich', 'argparse'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(plasma.serve.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "plasma.server"]


def test_an_uncompiled_tree_says_how_to_compile_it(tmp_path):
    shutil.copytree(
        Path(plasma.__file__).parent, tmp_path / "plasma", ignore=shutil.ignore_patterns("*.so", "_c")
    )
    done = subprocess.run(
        [sys.executable, "-c", "import plasma"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "plasma isn't compiled" in done.stderr
    assert f"cd {tmp_path} && {sys.executable} -m pip install -e ." in done.stderr


def test_another_operating_system_is_named():
    code = "import sys; sys.platform = 'darwin'; import plasma"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "plasma needs Linux" in done.stderr
    assert "darwin" in done.stderr


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        plasma.nothing
