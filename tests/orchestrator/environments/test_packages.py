"""Copies of directories and modules: what is in them, and where they are."""

from __future__ import annotations

import os
import zipfile

import pytest

from orchestrator.environments import packages
from orchestrator.environments.packages import copy_directory, copy_module


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for path, text in {
        "main.py": "X = 1",
        "data/big.bin": "x" * 1000,
        "data/small.txt": "s",
        ".git/config": "secret",
        "pkg/__pycache__/x.pyc": "",
        "pkg/__init__.py": "",
        "notes.log": "",
        ".gitignore": "*.log\n",
        "pkg/.gitignore": "private.py\n",
        "pkg/private.py": "",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "session" / "environments")


def files_of(path):
    found = [
        os.path.relpath(os.path.join(at, name), path) for at, _, names in os.walk(path) for name in names
    ]
    return sorted(found)


def test_what_git_ignores_stays_behind(source, root):
    copy = copy_directory(str(source), root, [])
    kept = [".gitignore", "data/big.bin", "data/small.txt", "main.py", "pkg/.gitignore", "pkg/__init__.py"]
    assert files_of(copy) == kept


def test_excludes_have_the_last_word(source, root):
    copy = copy_directory(str(source), root, ["data/", "!notes.log"])
    assert "notes.log" in files_of(copy) and "data/small.txt" not in files_of(copy)


def test_a_copy_has_the_name_of_its_content(source, root):
    first = copy_directory(str(source), root, [])
    assert copy_directory(str(source), root, []) == first
    (source / "main.py").write_text("X = 2")
    second = copy_directory(str(source), root, [])
    assert second != first
    with open(os.path.join(first, "main.py")) as file:
        assert file.read() == "X = 1", "who stands in the first copy sees nothing of it"
    (source / "main.py").chmod(0o755)
    third = copy_directory(str(source), root, [])
    assert third != second and os.access(os.path.join(third, "main.py"), os.X_OK)
    assert sorted(os.listdir(root)) == sorted(map(os.path.basename, (first, second, third)))


def test_links_point_where_they_pointed(source, root, tmp_path):
    (tmp_path / "outside.txt").write_text("outside")
    (source / "inner").symlink_to("data/small.txt")
    (source / "outer").symlink_to("../outside.txt")
    copy = copy_directory(str(source), root, [])
    assert os.readlink(os.path.join(copy, "inner")) == "data/small.txt"
    with open(os.path.join(copy, "outer")) as file:
        assert file.read() == "outside"


def test_too_large_names_the_largest(source, root, monkeypatch):
    monkeypatch.setattr(packages, "PACKAGE_BYTES_MAX", 900)
    with pytest.raises(ValueError, match=r"excludes(.|\n)*MiB  data/big.bin"):
        copy_directory(str(source), root, [])
    assert os.listdir(root) == [], "nothing half is left"


def test_zip_files(source, root, tmp_path):
    flat, nested = tmp_path / "flat.zip", tmp_path / "nested.zip"
    for path, prefix in ((flat, ""), (nested, "project/")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(source / "main.py", prefix + "main.py")
            archive.write(source / "data" / "small.txt", prefix + "data/small.txt")
    for path in (flat, nested):
        assert files_of(copy_directory(str(path), root, [])) == ["data/small.txt", "main.py"]


def test_modules_keep_their_names(source, root, tmp_path):
    assert files_of(copy_module(str(source / "pkg"), root, [])) == ["pkg/.gitignore", "pkg/__init__.py"]
    assert files_of(copy_module(str(source / "main.py"), root, [])) == ["main.py"]
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/__init__.py", "")
    assert files_of(copy_module(str(wheel), root, [])) == ["thing/__init__.py"]


def test_what_is_no_module(root, tmp_path):
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match="neither a directory nor a zip file"):
        copy_directory(str(tmp_path / "x.txt"), root, [])
    with pytest.raises(ValueError, match="a wheel or a zip file"):
        copy_module(str(tmp_path / "x.txt"), root, [])
