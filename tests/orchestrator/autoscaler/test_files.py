from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.autoscaler.config import ConfigError
from orchestrator.autoscaler.files import check, read_file

YAML = """
max_workers: 3
idle_timeout_minutes: 2
available_node_types:
  small:
    resources: {CPU: 2}
"""


def test_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    config = check(read_file(str(tmp_path / "a.yaml")))
    assert (config.max_workers, config.idle_timeout_s, list(config.node_types)) == (3, 120, ["small"])
    (tmp_path / "a.json").write_text('{"available_node_types": {"small": {"resources": {"CPU": 2}}}}')
    assert list(check(read_file(str(tmp_path / "a.json"))).node_types) == ["small"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "max_workers: 3", "is not JSON"),
        ("a.yaml", "a: [1", "is neither JSON nor YAML"),
        ("a.yaml", "- 1", "the configuration: must be a mapping"),
        (
            "a.yaml",
            "max_worker: 1\navailable_node_types: {s: {resources: {CPU: 1}}}",
            "max_worker: there is no",
        ),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        check(read_file(str(tmp_path / name)))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_file(str(tmp_path / "none"))
