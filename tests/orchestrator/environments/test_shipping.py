"""What of an environment is brought to another node, and how it is named there."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from orchestrator.environments import shipping
from orchestrator.environments.packages import copy_directory
from orchestrator.environments.resolved import Resolved, directory_of


@pytest.fixture
def here(tmp_path: Path) -> str:
    (tmp_path / "here" / "environments").mkdir(parents=True)
    return str(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> str:
    (tmp_path / "there" / "environments").mkdir(parents=True)
    return str(tmp_path / "there")


@pytest.fixture
def described(tmp_path: Path, here: str) -> Resolved:
    """An environment of the node `here`."""
    (tmp_path / "project" / "sub").mkdir(parents=True)
    (tmp_path / "project" / "sub" / "a.txt").write_text("a")
    (tmp_path / "project" / "link").symlink_to("sub/a.txt")
    root = directory_of(here)
    hook = os.path.join(root, "0" * 32 + ".hook")
    Path(hook).write_bytes(b"pickle")
    return {
        "working_dir": copy_directory(str(tmp_path / "project"), root, []),
        "env_vars": {"A": "1"},
        "hook": hook,
    }


def wheel(tmp_path: Path, python: str) -> tuple[str, Resolved]:
    path = tmp_path / "thing-1-py3-none-any.whl"
    path.write_bytes(b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()
    pip = {
        "lines": ["numpy", str(path)],
        "files": {str(path): digest},
        "python": {"executable": python, "version": "", "packages": []},
    }
    return f"wheel-{digest[:32]}/{path.name}", {"pip": pip}


def test_all_that_it_names_is_found_there_under_the_same_names(described: Resolved, there: str) -> None:
    moved, missing = shipping.localized(described, there)
    assert sorted(missing) == sorted(shipping.named_in(described))
    assert moved["env_vars"] == {"A": "1"}
    for field in ("working_dir", "hook"):
        assert moved[field] == os.path.join(directory_of(there), os.path.basename(described[field]))


def test_what_was_packed_is_unpacked_as_it_was(described: Resolved, there: str, tmp_path: Path) -> None:
    moved, missing = shipping.localized(described, there)
    for name in missing:
        fd = shipping.pack(shipping.named_in(described)[name])
        arrived = tmp_path / "arrived"
        with open(fd, "rb") as file:
            arrived.write_bytes(file.read())
        shipping.unpack(str(arrived), name, there)
        assert not arrived.exists()
    assert Path(moved["working_dir"], "sub", "a.txt").read_text() == "a"
    assert os.readlink(os.path.join(moved["working_dir"], "link")) == "sub/a.txt"
    assert Path(moved["hook"]).read_bytes() == b"pickle"
    assert shipping.localized(described, there) == (moved, [])


def test_a_module_s_name_stays_that_of_the_function_s_module(there: str) -> None:
    assert shipping.localized({"hook": "package.module.function"}, there) == (
        {"hook": "package.module.function"},
        [],
    )


def test_a_wheel_is_brought_unless_the_same_file_is_there(tmp_path: Path, there: str) -> None:
    name, described = wheel(tmp_path, "/no/such/python")
    moved, missing = shipping.localized(described, there)
    assert missing == [] and moved["pip"]["lines"] == described["pip"]["lines"]
    assert os.path.exists(moved["pip"]["python"]["executable"]), "that of this node"
    (path,) = described["pip"]["files"]
    os.unlink(path)
    moved, missing = shipping.localized(described, there)
    place = shipping.place_of(name, there)
    assert missing == [name]
    assert moved["pip"]["lines"] == ["numpy", place] and list(moved["pip"]["files"]) == [place]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "package-0", "package-" + "0" * 32 + "/..", "wheel-" + "0" * 32 + "/..", ""]
)
def test_names_that_are_none_are_refused(path: str, there: str) -> None:
    assert not shipping.is_name(path)
    if not path.endswith(".."):
        with pytest.raises(ValueError, match="names that are none"):
            shipping.localized({"working_dir": path}, there)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_an_archive_that_would_write_elsewhere_is_refused(name: str, there: str, tmp_path: Path) -> None:
    arrived = tmp_path / "arrived"
    with tarfile.open(arrived, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="evil"):
        shipping.unpack(str(arrived), "package-" + "0" * 32, there)
    assert os.listdir(directory_of(there)) == [] and not arrived.exists()


def test_nothing_is_written_through_a_link(there: str, tmp_path: Path) -> None:
    arrived = tmp_path / "arrived"
    with tarfile.open(arrived, "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        member = tarfile.TarInfo("out/evil")
        archive.addfile(member)
    with pytest.raises(OSError, match="evil"):
        shipping.unpack(str(arrived), "package-" + "0" * 32, there)
    assert not (tmp_path / "evil").exists()
