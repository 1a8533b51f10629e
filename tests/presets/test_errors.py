"""One root of the project's errors."""

import ast
import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("presets", "arch", "export", "vsaether", "training", "chainner_nodes", "benchmarks")


def test_every_error_class_derives_from_the_root() -> None:
    """Read from the source, as no Python has all that the packages import."""
    bases: dict[str, set[str]] = {}
    for path in [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    derived = {"AetherNetError"}
    while more := {name for name, of in bases.items() if of & derived} - derived:
        derived |= more
    assert len(derived) > 12 and bases.keys() - derived == set()


def test_they_keep_the_built_in_error_of_their_kind() -> None:
    for module, name, kind in (
        ("arch", "CheckpointError", ValueError),
        ("export.errors", "ExportError", ValueError),
        ("training.errors", "TrainingError", RuntimeError),
        ("training.errors", "DataError", ValueError),
        ("chainner_nodes.install", "InstallError", ValueError),
    ):
        assert issubclass(getattr(importlib.import_module(module), name), kind)
