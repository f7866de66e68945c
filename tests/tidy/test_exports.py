"""The public face: what each package offers is written down, and a change to it is made on purpose.

The names are in ``exports/<package>.txt``, one to a line. Nothing else without an underscore is public.
"""

from __future__ import annotations

import importlib
import types

import pytest

from tests.tidy.tree import ROOT

EXPORTS = ROOT / "tests" / "tidy" / "exports"


def written(package: str) -> list[str]:
    lines = (EXPORTS / f"{package}.txt").read_text().splitlines()
    return sorted(line for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("package", ["plasma", "orchestrator"])
def test_the_exports_are_those_written_down(package: str) -> None:
    assert sorted(importlib.import_module(package).__all__) == written(package)


@pytest.mark.parametrize("package", ["plasma", "orchestrator"])
def test_every_export_is_there(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing


@pytest.mark.parametrize("package", ["plasma", "orchestrator"])
def test_nothing_else_looks_public(package: str) -> None:
    module = importlib.import_module(package)
    extra = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in module.__all__
        and not isinstance(value, types.ModuleType)
        and name not in ("annotations", "TYPE_CHECKING")
        and getattr(value, "__module__", None) != "typing"
    ]
    assert not extra, f"give these an underscore, or export them: {extra}"
