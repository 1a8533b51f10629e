"""No package imports in a circle: each file's imports are read, those for type checkers and in functions included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
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


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; a package itself is its __init__.py."""
    names = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(name: str, path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def graph(package: str, known: dict[str, Path]) -> dict[str, set[str]]:
    """Module: the modules of its package that it imports. What gives a module by name imports not its package too."""
    edges = {}
    for name, path in known.items():
        found = imports(name, path) & known.keys()
        named = {f for f in found if not any(other.startswith(f"{f}.") for other in found)} - {name}
        edges[name] = named
    return edges


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_in_a_circle(package: str) -> None:
    known = modules(package)
    assert known
    try:
        TopologicalSorter(graph(package, known)).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("package", ONE_WAY)
def test_imports_between_packages_go_one_way(package: str) -> None:
    for name, path in modules(package).items():
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
        TopologicalSorter(graph("toy", known)).prepare()
