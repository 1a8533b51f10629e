"""The double of chaiNNer's api has the names and signatures of the checkout's: what the nodes call exists there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

DOUBLE = Path(__file__).parent / "double"
FILES = sorted(p for p in DOUBLE.rglob("*.py"))
Definition = ast.FunctionDef | ast.ClassDef


def _definitions(path: Path) -> dict[str, Definition]:
    """Functions and classes of a module, private ones left out."""
    found = ast.parse(path.read_text(encoding="utf-8")).body
    return {n.name: n for n in found if isinstance(n, Definition) and not n.name.startswith("_")}


def _host_definitions(source: Path, path: Path) -> dict[str, Definition]:
    """The same module of the checkout, or all modules of the folder that its package re-exports."""
    relative = path.relative_to(DOUBLE)
    folder = relative.parent if relative.name == "__init__.py" else relative.with_suffix("")
    files = [source / relative]
    if (source / folder).is_dir():
        files += sorted((source / folder).glob("*.py"))
    return {name: node for file in files if file.is_file() for name, node in _definitions(file).items()}


def _signature(function: ast.FunctionDef) -> list[str]:
    """Every parameter with its kind and default."""
    spec = function.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(plain) - len(spec.defaults)) + [*spec.defaults]
    rows = [f"{a.arg}={ast.unparse(d) if d else ''}" for a, d in zip(plain, defaults, strict=True)]
    rows += [f"*{a.arg}={ast.unparse(d) if d else ''}" for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    return rows + [f"*{a.arg}" for a in (spec.vararg, spec.kwarg) if a]


def _fields(node: ast.ClassDef) -> list[str]:
    return [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {n.name: n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")} | {
        n.name: n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"
    }


def _inherited(node: ast.ClassDef, all_: dict[str, Definition]) -> dict[str, ast.FunctionDef]:
    """Methods of a class and, where they are known, of its bases."""
    found: dict[str, ast.FunctionDef] = {}
    for base in node.bases:
        name = ast.unparse(base).split("[")[0]
        if isinstance(parent := all_.get(name), ast.ClassDef):
            found |= _inherited(parent, all_)
    return found | _methods(node)


def differences(path: Path, source: Path) -> list[str]:
    """What a module of the double has that the checkout has not, or has in another form."""
    host = _host_definitions(source, path)
    everything = host | _host_definitions(source, DOUBLE / "api" / "__init__.py")
    found = []
    for name, ours in _definitions(path).items():
        theirs = host.get(name)
        if type(theirs) is not type(ours):
            found.append(f"{name} is missing")
        elif isinstance(ours, ast.FunctionDef) and isinstance(theirs, ast.FunctionDef):
            if _signature(ours) != _signature(theirs):
                found.append(f"{name}: {_signature(ours)} is {_signature(theirs)} there")
        elif isinstance(ours, ast.ClassDef) and isinstance(theirs, ast.ClassDef):
            if ours.decorator_list and [f for f in _fields(ours) if f not in _fields(theirs)]:
                found.append(f"{name}: fields {_fields(ours)} are {_fields(theirs)} there")
            known = _inherited(theirs, everything)
            for method, ours_method in _methods(ours).items():
                if method not in known:
                    found.append(f"{name}.{method} is missing")
                elif _signature(ours_method) != _signature(known[method]):
                    there = _signature(known[method])
                    found.append(f"{name}.{method}: {_signature(ours_method)} is {there} there")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DOUBLE)))
def test_double_has_the_signatures_of_the_checkout(path: Path, checkout: Path) -> None:
    assert not differences(path, checkout / "backend" / "src")


def test_comparison_finds_differences(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    real = (DOUBLE / "nodes" / "groups.py").read_text().replace("if_group(condition", "if_group(renamed", 1)
    (tmp_path / "nodes" / "groups.py").write_text(real.replace("def required", "def gone"))
    found = differences(DOUBLE / "nodes" / "groups.py", tmp_path)
    assert any("if_group" in f for f in found) and "required is missing" in found


def test_everything_that_the_nodes_import_exists_in_the_checkout(checkout: Path) -> None:
    """Every name that a node module imports from chaiNNer is in the double, and in the checkout."""
    source = checkout / "backend" / "src"
    ours = Path(__file__).resolve().parents[2] / "chainner_nodes" / "nodes"
    count = 0
    for file in sorted(ours.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            root = (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) and not node.level else ""
            if root not in ("api", "nodes", "logger", "packages") or not isinstance(node, ast.ImportFrom):
                continue
            place = Path(*str(node.module).split("."))
            for alias in node.names:
                for base in (DOUBLE, source):
                    files = [base / place.with_suffix(".py"), *(base / place).glob("*.py")]
                    texts = [f.read_text(encoding="utf-8") for f in files if f.is_file()]
                    submodule = (base / place / f"{alias.name}.py").is_file()
                    assert submodule or any(alias.name in _names(t) for t in texts), (base, node.module, alias.name)
                count += 1
    assert count > 30


def _names(text: str) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, Definition):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name for a in node.names}
    return found
