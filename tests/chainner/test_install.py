"""Installing into a chaiNNer: what is copied, what is refused, and that nothing of the user's is lost."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import presets
from chainner_nodes import install, launch
from chainner_nodes.__main__ import main
from chainner_nodes.install import InstallError


def make(folder: Path, source: str) -> Path:
    """A folder that looks like a chaiNNer's."""
    for mark in install.MARKS:
        (folder / source / mark).parent.mkdir(parents=True, exist_ok=True)
        (folder / source / mark).write_text("")
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make(tmp_path / "app", "backend/src")


@pytest.fixture
def ours(app: Path) -> Path:
    """The folder `aethernet` in it, installed."""
    return install.install(app).source / install.FOLDER


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_sources_are_found_in_checkouts_and_apps(tmp_path: Path) -> None:
    for number, source in enumerate(("backend/src", "resources/src", "src", "Contents/Resources/src", ".")):
        app = make(tmp_path / str(number), source)
        assert install.find_source(app) == (app / source).resolve()


def test_the_command_installs_what_is_needed_and_takes_it_away(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copies import each other, find the released files, and are less than was there before."""
    before = tree(app)
    assert main(["status", str(app)]) == 1
    assert main(["uninstall", str(app)]) == 1 and "not installed" in capsys.readouterr().err
    assert main(["install", str(app)]) == main(["status", str(app)]) == 0
    assert install.version() in capsys.readouterr().out
    source = install.find_source(app)
    copied = {name.removeprefix(f"{install.FOLDER}/") for name in tree(source) if name.startswith(install.FOLDER)}
    assert {name.split("/")[0] for name in copied} == {*install.PARTS, install.MANIFEST}
    assert not [name for name in copied if "__pycache__" in name or Path(name).name.startswith(".")]
    for kind in presets.load("tiny_2x")["files"]:
        assert (f"presets/tiny_2x/{presets.path('tiny_2x', kind).name}" in copied) == (kind in install.KINDS)
    code = f"""
import sys; sys.path.insert(0, {str(source / install.FOLDER)!r})
import arch, export, presets, chainner_nodes
print(*(m.__file__ for m in (arch, export, presets)), *(len(presets.read("tiny_2x", k)) for k in {install.KINDS}))"""
    command = [sys.executable, "-I", "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=app).stdout.split()
    assert all(name.startswith(str(source)) for name in found[:3])
    assert found[3:] == [str(presets.load("tiny_2x")["files"][kind]["bytes"]) for kind in install.KINDS]
    compile((source / install.LOADER).read_text(), "loader", "exec")
    assert main(["uninstall", str(app)]) == 0
    assert tree(app) == before and not (source / install.FOLDER).exists()


def test_install_again_replaces_an_older_version_but_nothing_of_the_user(app: Path, ours: Path) -> None:
    """What the manifest knows goes; what was changed or added since stays, also when all else is removed."""
    old, mine, manifest = ours / "arch" / "gone.py", ours / "chainner_nodes" / "mine.chn", ours / install.MANIFEST
    old.write_text("old")
    text = manifest.read_text()
    manifest.write_text(text.replace('"files": {', '"files": {"arch/gone.py": "52a9",'))
    with pytest.raises(InstallError, match=r"changed or added.*arch/gone\.py"):
        install.install(app)
    digest = hashlib.sha256(b"old").hexdigest()
    manifest.write_text(text.replace('"files": {', f'"files": {{"arch/gone.py": "{digest}",'))
    assert not install.install(app).problems and not old.exists()
    mine.write_text("mine")
    with pytest.raises(InstallError, match=r"mine\.chn"):
        install.install(app)
    assert install.uninstall(app) == (ours.parent, [mine])
    assert tree(ours) == {mine.relative_to(ours).as_posix(): b"mine"}


def test_status_names_what_is_missing_changed_or_added(app: Path, ours: Path) -> None:
    (ours.parent / install.LOADER).unlink()
    (ours / "export" / "errors.py").write_text("x")
    (ours / "arch" / "errors.py").unlink()
    (ours / "arch" / "mine.py").write_text("mine")
    problems = " ".join(install.status(app).problems)
    for name in ("load_aethernet.py", "export/errors.py", "arch/errors.py", "arch/mine.py"):
        assert name in problems


def test_folders_of_others_are_refused_untouched(app: Path, tmp_path: Path) -> None:
    for folder, said in ((tmp_path, "no chaiNNer is here"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InstallError, match=said):
            install.install(folder)
    theirs = install.find_source(app) / install.FOLDER
    theirs.mkdir()
    (theirs / "theirs.txt").write_text("theirs")
    before = tree(app)
    for action in (install.install, install.uninstall, install.status):
        with pytest.raises(InstallError, match="not from this installer"):
            action(app)
    assert tree(app) == before


def test_a_manifest_that_leads_outside_and_a_failed_copy_change_nothing(
    app: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ours / install.MANIFEST
    text = manifest.read_text()
    for name in ("../../outside.txt", "/outside.txt"):
        manifest.write_text(text.replace('"files": {', f'"files": {{"{name}": "",'))
        before = tree(app)
        with pytest.raises(InstallError, match="leads out of the folder"):
            install.uninstall(app)
        assert tree(app) == before
    manifest.write_text(text)
    before = tree(app)

    def full(path: Path, data: bytes) -> None:
        if path.name == "preset.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr(install, "write", full)
    with pytest.raises(InstallError, match="No space left"):
        install.install(app)
    assert tree(app) == before


def test_the_launcher_says_what_this_python_lacks(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (install.find_source(app) / "server.py").write_text("import sanic_that_is_not_here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.delitem(sys.modules, "server", raising=False)
    assert main(["run", str(app), "8000"]) == 1
    error = capsys.readouterr().err
    assert "sanic_that_is_not_here" in error and sys.executable in error
    with pytest.raises(InstallError, match="no such folder"):
        launch.run(app / "none", [])
