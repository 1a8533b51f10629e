"""Installing into a chaiNNer: what is copied, what is refused, and that nothing of the user's is lost."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import presets
from chainner_nodes import install
from chainner_nodes.__main__ import main
from chainner_nodes.install import InstallError

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(params=["backend/src"])
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder that looks like a chaiNNer's, with its sources somewhere in it."""
    for mark in install.MARKS:
        path = tmp_path / "app" / request.param / mark
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "app"


@pytest.fixture
def ours(app: Path) -> Path:
    """The folder `aethernet` in it, installed."""
    return install.install(app).source / install.FOLDER


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def claim(ours: Path, name: str, digest: str) -> None:
    """Let the manifest say that a file was installed."""
    manifest = json.loads((ours / install.MANIFEST).read_text())
    manifest["files"][name] = digest
    (ours / install.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("app", ["backend/src", "resources/src", "src", "Contents/Resources/src", "."], indirect=True)
def test_sources_are_found_in_checkouts_and_apps(app: Path) -> None:
    assert [*app.rglob("server.py")] == [install.find_source(app) / "server.py"]


def test_the_command_installs_what_is_needed_and_takes_it_away(app: Path, capsys: Capture) -> None:
    """The copies import each other, find the released files, and are less than was there before."""
    before = tree(app)
    assert main(["status", str(app)]) == main(["uninstall", str(app)]) == 1
    assert "not installed" in capsys.readouterr().err
    assert main(["install", str(app)]) == main(["status", str(app)]) == 0
    assert install.version() in capsys.readouterr().out
    source = install.find_source(app)
    copied = tree(source / install.FOLDER).keys()
    assert {name.split("/")[0] for name in copied} == {*install.PARTS, install.MANIFEST}
    assert not [name for name in copied if "__pycache__" in name or Path(name).name.startswith(".")]
    for kind in presets.load("tiny_2x")["files"]:
        assert (f"presets/tiny_2x/{presets.path('tiny_2x', kind).name}" in copied) == (kind in install.KINDS)
    code = f"""
import sys; sys.path.insert(0, {str(source / install.FOLDER)!r})
import arch, export, presets, chainner_nodes
print(*(m.__file__ for m in (arch, export, presets)), *(len(presets.read("tiny_2x", k)) for k in {install.KINDS}))"""
    found = subprocess.check_output([sys.executable, "-I", "-c", code], text=True, cwd=app).split()
    assert all(name.startswith(str(source)) for name in found[:3])
    assert found[3:] == [str(presets.load("tiny_2x")["files"][kind]["bytes"]) for kind in install.KINDS]
    compile((source / install.LOADER).read_text(), "loader", "exec")
    assert main(["uninstall", str(app)]) == 0
    assert tree(app) == before and not (source / install.FOLDER).exists()


def test_install_again_replaces_an_older_version_but_nothing_of_the_user(app: Path, ours: Path) -> None:
    """What the manifest knows goes; what was changed or added since stays, also when all else is removed."""
    old, mine = ours / "arch" / "gone.py", ours / "chainner_nodes" / "mine.chn"
    old.write_text("old")
    claim(ours, "arch/gone.py", "52a9")
    with pytest.raises(InstallError, match=r"changed or added.*arch/gone\.py"):
        install.install(app)
    claim(ours, "arch/gone.py", hashlib.sha256(b"old").hexdigest())
    assert not install.install(app).problems and not old.exists()
    mine.write_text("mine")
    with pytest.raises(InstallError, match=r"mine\.chn"):
        install.install(app)
    assert install.uninstall(app) == (ours.parent, [mine])
    assert tree(ours) == {mine.relative_to(ours).as_posix(): b"mine"}


def test_status_names_what_is_missing_changed_or_added(app: Path, ours: Path) -> None:
    (ours.parent / install.LOADER).unlink()
    (ours / "arch" / "errors.py").unlink()
    for name in ("export/errors.py", "arch/mine.py"):
        (ours / name).write_text("mine")
    missing, changed = install.status(app).problems
    assert "load_aethernet.py" in missing
    assert "arch/errors.py, arch/mine.py, export/errors.py" in changed


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


def test_manifests_that_lead_out_and_failed_copies_change_nothing(app: Path, ours: Path, monkeypatch: Patch) -> None:
    manifest = (ours / install.MANIFEST).read_text()
    for name in ("../../outside.txt", "/outside.txt"):
        claim(ours, name, "")
        before = tree(app)
        with pytest.raises(InstallError, match="leads out of the folder"):
            install.uninstall(app)
        assert tree(app) == before
        (ours / install.MANIFEST).write_text(manifest)

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        if path.name == "preset.json":
            raise OSError(28, "No space left on device")

    before = tree(app)
    monkeypatch.setattr(install, "write", full)
    with pytest.raises(InstallError, match="No space left"):
        install.install(app)
    assert tree(app) == before


def test_the_launcher_says_what_this_python_lacks(app: Path, monkeypatch: Patch, capsys: Capture) -> None:
    (install.find_source(app) / "server.py").write_text("import sanic_that_is_not_here")
    for name in ("path", "argv"):  # which it changes
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    assert main(["run", str(app), "8000"]) == 1
    error = capsys.readouterr().err
    assert "sanic_that_is_not_here" in error and sys.executable in error
