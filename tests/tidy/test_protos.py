"""The generated code is what the compiler makes of the .proto files."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.tidy.tree import ROOT

GENERATED = ROOT / "orchestrator" / "rpc" / "generated"


@pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None,
    reason="needs the compiler of grpcio-tools, which is installed for development (extra `dev`) only",
)
def test_the_generated_code_is_up_to_date() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import make_protos
    finally:
        sys.path.remove(str(ROOT / "tools"))
    found = {path.name: path.read_text() for path in GENERATED.iterdir() if path.is_file()}
    assert found == make_protos.generate(), "run `make protos`"
