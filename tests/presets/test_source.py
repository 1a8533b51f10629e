"""What the source says: imports in no circle and one way, one root of errors, one place that puts files into place."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("presets", "arch", "export", "vsaether", "training", "chainner_nodes", "benchmarks")
ONE_WAY = {  # of this project's packages, those that each may import
    "presets": set(),
    "arch": {"presets"},
    "export": {"presets", "arch"},
    "vsaether": {"presets"},
    "chainner_nodes": {"presets", "arch", "export"},
    "training": {"presets", "arch", "export"},
}
OPTIONAL = {  # what is there, is used
    "vsaether.report.describe": {"arch"},  # describes checkpoints too
    "export.engines": {"vsaether"},  # has the filter's builder make TensorRT's engines
}
KINDS = {"CheckpointError": "ValueError", "ExportError": "ValueError", "TrainingError": "RuntimeError"}
KINDS |= {"DataError": "ValueError", "InstallError": "ValueError"}  # the built-in errors that callers may expect


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; a package itself is its __init__.py."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def nodes(path: Path) -> Iterator[ast.AST]:
    """All of a file's syntax, what stands in functions and for type checkers included."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imports(name: str, path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def check_circles(known: dict[str, Path]) -> None:
    """Raise CycleError where modules import each other; what imports a module by name imports not its package too."""
    edges = {}
    for name, path in known.items():
        found = imports(name, path) & known.keys()
        edges[name] = {f for f in found if not any(other.startswith(f"{f}.") for other in found)} - {name}
    TopologicalSorter(edges).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_in_a_circle_and_imports_between_packages_go_one_way(package: str) -> None:
    known = modules(package)
    assert package in known
    check_circles(known)
    for name, path in known.items() if package in ONE_WAY else ():
        others = {found.partition(".")[0] for found in imports(name, path)} & set(PACKAGES)
        assert others <= {package} | ONE_WAY[package] | OPTIONAL.get(name, set()), name


def test_a_circle_is_found(tmp_path: Path) -> None:
    """One that runs through a type checker's import, a function and a relative import."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.b import B\n")
    (tmp_path / "b.py").write_text("def f():\n    from . import c\n")
    (tmp_path / "c.py").write_text("from .a import A\n")
    known = {"toy": tmp_path / "__init__.py"} | {f"toy.{n}": tmp_path / f"{n}.py" for n in "abc"}
    with pytest.raises(CycleError):
        check_circles(known)


def test_every_error_class_derives_from_the_root_and_keeps_the_built_in_error_of_its_kind() -> None:
    """Read from the source, as no Python has all that the packages import."""
    bases: dict[str, set[str]] = {}
    for node in (node for package in PACKAGES for path in modules(package).values() for node in nodes(path)):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    derived = {"AetherNetError"}
    while more := {name for name, of in bases.items() if of & derived} - derived:
        derived |= more
    assert len(derived) > 12 and bases.keys() - derived == set()
    assert all(kind in bases[name] for name, kind in KINDS.items())


def test_nothing_is_flushed_or_put_into_place_elsewhere() -> None:
    """benchmarks.gpu_record flushes a log that it appends to."""
    words = re.compile(r"os\.(fsync|link|O_DIRECTORY)\b|mkstemp|NamedTemporaryFile")
    paths = [path for package in PACKAGES[:-1] for path in modules(package).values()]
    assert [path for path in paths if words.search(path.read_text(encoding="utf-8"))] == [ROOT / "presets" / "files.py"]
