"""Installing into a chaiNNer: what is copied, what is refused, and that nothing of the user's is lost."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from chainner_nodes import install, launch
from chainner_nodes.__main__ import main
from chainner_nodes.install import InstallError


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder that looks like a chaiNNer checkout."""
    return _make(tmp_path / "app", "backend/src")


def _make(folder: Path, source: str) -> Path:
    for mark in install.MARKS:
        file = folder / source / mark
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("source", ["backend/src", "resources/src", "src", "Contents/Resources/src", "."])
def test_sources_are_found_in_checkouts_and_apps(tmp_path: Path, source: str) -> None:
    assert install.find_source(_make(tmp_path / "app", source)) == (tmp_path / "app" / source).resolve()


def test_install_copies_all_that_is_needed_and_uninstall_takes_it_away(app: Path) -> None:
    before = _tree(app)
    assert install.status(app).version is None
    found = install.install(app)
    assert found == install.status(app) and found.version == install.version() and not found.problems
    after = _tree(found.source)
    assert {Path(n).parts[1] for n in after if n.startswith("aethernet/")} == {*install.PARTS, install.MANIFEST}
    assert not [n for n in after if "__pycache__" in n or n.endswith(".pyc") or Path(n).name.startswith(".")]
    assert any(n.endswith(".onnx") for n in after) and any(n.endswith(".chn") for n in after)
    (found.source / "aethernet" / "arch" / "__pycache__").mkdir()
    (found.source / "aethernet" / "arch" / "__pycache__" / "x.pyc").write_bytes(b"")
    assert install.uninstall(app) == (found.source, [])
    assert _tree(app) == before and not (found.source / "aethernet").exists()
    with pytest.raises(InstallError, match="not installed"):
        install.uninstall(app)


def test_copies_import_each_other_in_another_python_path(app: Path) -> None:
    source = install.install(app).source
    code = "import arch, export, presets, chainner_nodes; print(*(m.__file__ for m in (arch, export, presets)))"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(source / 'aethernet')!r}); {code}"]
    files = subprocess.run(command, check=True, capture_output=True, text=True, cwd=app).stdout.split()
    assert len(files) == 3 and all(f.startswith(str(source)) for f in files)
    ast.parse((source / install.LOADER).read_text())


def test_install_again_replaces_an_older_version(app: Path) -> None:
    source = install.install(app).source
    old = source / "aethernet" / "arch" / "gone.py"
    old.write_text("old")
    manifest = source / "aethernet" / install.MANIFEST
    digest = "52a9c22f5e1e0e2d4f1e4c5a3b0a0d4c"
    manifest.write_text(manifest.read_text().replace('"files": {', f'"files": {{\n  "arch/gone.py": "{digest}",'))
    assert install.status(app).problems  # changed, as far as the manifest knows
    with pytest.raises(InstallError, match=r"changed or added.*arch/gone\.py"):
        install.install(app)
    manifest.write_text(manifest.read_text().replace(digest, hashlib.sha256(b"old").hexdigest()))
    assert not install.install(app).problems
    assert not old.exists()


def test_files_of_the_user_survive(app: Path) -> None:
    source = install.install(app).source
    mine = source / "aethernet" / "chainner_nodes" / "examples" / "mine.chn"
    mine.write_text("mine")
    assert "mine.chn" in install.status(app).problems[0]
    with pytest.raises(InstallError, match=r"mine\.chn"):
        install.install(app)
    assert install.uninstall(app) == (source, [mine])
    assert mine.read_text() == "mine"
    assert [p for p in (source / "aethernet").rglob("*") if p.is_file()] == [mine]


def test_status_names_what_is_missing_or_changed(app: Path) -> None:
    source = install.install(app).source
    (source / install.LOADER).unlink()
    (source / "aethernet" / "arch" / "layers.py").write_text("x")
    (source / "aethernet" / "arch" / "fused.py").unlink()
    problems = " ".join(install.status(app).problems)
    assert all(word in problems for word in ("load_aethernet.py", "arch/layers.py", "arch/fused.py"))


def test_folders_of_others_are_refused_untouched(app: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="no chaiNNer is here"):
        install.install(tmp_path)
    with pytest.raises(InstallError, match="no such folder"):
        install.install(tmp_path / "none")
    source = install.find_source(app)
    (source / "aethernet").mkdir()
    (source / "aethernet" / "theirs.txt").write_text("theirs")
    before = _tree(app)
    for action in (install.install, install.uninstall, install.status):
        with pytest.raises(InstallError, match="not from this installer"):
            action(app)
    assert _tree(app) == before


@pytest.mark.parametrize("name", ["../../outside.txt", "/outside.txt"])
def test_manifest_that_leads_outside_is_refused(app: Path, name: str, tmp_path: Path) -> None:
    source = install.install(app).source
    (tmp_path / "outside.txt").write_text("keep")
    manifest = source / "aethernet" / install.MANIFEST
    manifest.write_text(manifest.read_text().replace('"files": {', f'"files": {{\n  "{name}": "",'))
    with pytest.raises(InstallError, match="leads out of the folder"):
        install.uninstall(app)
    assert (tmp_path / "outside.txt").exists() and (source / "aethernet" / "arch" / "fused.py").exists()


def test_failed_copy_leaves_the_old_version(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install.install(app)
    before = _tree(app)

    def full(target: Path) -> None:
        target.mkdir()
        (target / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(install, "_copy_parts", full)
    with pytest.raises(InstallError, match="No space left"):
        install.install(app)
    assert _tree(app) == before


def test_command_line(app: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(app)]) == 1 and "not installed" in capsys.readouterr().out
    assert main(["install", str(app)]) == 0 and "is installed" in capsys.readouterr().out
    assert main(["status", str(app)]) == 0
    assert main(["uninstall", str(app)]) == 0 and "removed" in capsys.readouterr().out
    assert main(["install", str(tmp_path)]) == 1 and "no chaiNNer" in capsys.readouterr().err


def test_launcher_says_what_this_python_lacks(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = install.find_source(app)
    (source / "server.py").write_text("import sanic_that_is_not_here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.delitem(sys.modules, "server", raising=False)
    assert main(["run", str(app), "8000"]) == 1
    error = capsys.readouterr().err
    assert "sanic_that_is_not_here" in error and sys.executable in error
    with pytest.raises(InstallError, match="no such folder"):
        launch.run(app / "none", [])
