"""Generate orchestrator/rpc/generated/ from orchestrator/rpc/protos/: `make protos`.

    python tools/make_protos.py [folder]

The generated code is checked in, so that nobody needs the compiler to build or install. Only messages are
generated; services are a method name and two messages each, which `orchestrator.rpc.channels` takes as they
are.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "orchestrator" / "rpc" / "protos"
GENERATED = ROOT / "orchestrator" / "rpc" / "generated"
DOCSTRING = '"""Made from orchestrator/rpc/protos/ by `make protos`. Not to be edited."""\n'
#: Imports among generated files, which protoc writes as if they lay on the path.
#: Generated code asks for a runtime at least as new as its compiler, though it uses nothing that protobuf 5
#: lacks. Whoever has another package that holds protobuf back must not be unable to install this one.
RUNTIME_CHECK = re.compile(
    r"^from google.protobuf import runtime_version.*\n"
    r"|^_runtime_version\.Validate\w+\((?:\n.*)*?\n\)\n"
    r"|^# Protobuf Python Version.*\n",
    re.MULTILINE,
)
SIBLING = re.compile(r"^import (\w+_pb2) as (\w+)$", re.MULTILINE)


def generate() -> dict[str, str]:
    """Return what the folder is to hold: names of files and their text."""
    from importlib.resources import files

    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as made:
        includes = [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
        sources = [str(path) for path in sorted(PROTOS.glob("*.proto"))]
        status = protoc.main(["protoc", *includes, f"--python_out={made}", f"--pyi_out={made}", *sources])
        if status:
            raise SystemExit(status)
        out = {path.name: path.read_text() for path in sorted(Path(made).iterdir())}
    out = {name: RUNTIME_CHECK.sub("", text) for name, text in out.items()}
    out = {
        name: SIBLING.sub(r"from orchestrator.rpc.generated import \1 as \2", text)
        for name, text in out.items()
    }
    return {"__init__.py": DOCSTRING, **out}


def main() -> None:
    """Write the files, and remove what no longer has a source."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else GENERATED
    target.mkdir(parents=True, exist_ok=True)
    wanted = generate()
    for path in target.iterdir():
        if path.is_file() and path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (target / name).write_text(text)


if __name__ == "__main__":
    main()
