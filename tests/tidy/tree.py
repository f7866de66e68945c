"""The checkout as the tidy tests read it: files, modules, imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: resolve(): the suite may run through a link to tests/.
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("plasma", "orchestrator")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples", "docs", "tools", ".ci")
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi", ".h", ".c", ".md", ".toml", ".txt", ".proto", "")
#: Folders that programs write.
MADE = ("__pycache__", "generated", "results", "out")
#: Cython isn't Python: its imports are found by their form.
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)


@dataclass(frozen=True)
class Import:
    """One import: ``module`` as written (relative ones resolved), from the file at ``path``."""

    path: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def source_files(*folders: str, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """Files that people write, below ``folders`` (all by default) and, by default, in the root itself."""
    if not folders:
        yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in suffixes)
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            parts = path.relative_to(ROOT / folder).parts
            made = any(part in MADE or part.startswith(".") for part in parts)
            if path.is_file() and path.suffix in suffixes and not made:
                yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _absolute(node: ast.ImportFrom, path: Path) -> list[str]:
    """The modules an ImportFrom names: ``from package import name`` may mean the module ``package.name``."""
    base = node.module or ""
    if node.level:
        parents = path.relative_to(ROOT).parts[: -node.level]
        base = ".".join([*parents, *([base] if base else [])])
    folder = ROOT.joinpath(*base.split("."))
    submodules = [folder / f"{alias.name}.py" for alias in node.names]
    return sorted(
        {
            f"{base}.{path.stem}" if path.exists() or path.with_suffix("").is_dir() else base
            for path in submodules
        }
    )


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, at its top or inside functions: both couple what they connect."""
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        for match in CYTHON_IMPORT.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Import(relative(path), line, match.group(1) or match.group(2))
        return
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(relative(path), node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            for module in _absolute(node, path):
                yield Import(relative(path), node.lineno, module)


def imports_in(*folders: str) -> Iterator[Import]:
    for path in source_files(*folders, suffixes=(".py", ".pyi", ".pyx", ".pxd")):
        yield from imports_of(path)
