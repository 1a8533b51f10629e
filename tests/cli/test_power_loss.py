"""What a disk holds after the power was lost: some files shorter, empty or full of zeros, others not there at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vsaether.cli import main
from vsaether.media import resume
from vsaether.media.manifest import JobFolder

from .conftest import make_video
from .test_resume import SEGMENTS, packets, scenes


@pytest.fixture(scope="module")
def stopped(identity_engine: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple]]:
    """The job folder of a film whose segments are complete, and which is not put together; and its packets then."""
    place = tmp_path_factory.mktemp("film")
    source = make_video(place / "in.mkv", pts=[40 * i for i in range(60)], picture=scenes, audio="aac")
    command = ["upscale", str(source), str(place / "out.mkv"), "--engine", identity_engine, *SEGMENTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "_finish", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(command)
    shutil.copytree(JobFolder.of(place / "out.mkv").path, place / "kept")
    assert main(command) == 0
    return place, packets(place / "out.mkv")


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def unnamed(path: Path) -> None:
    """It had not got its name yet."""
    path.rename(path.with_name(".aethernet-12345678.part"))


@pytest.mark.parametrize("loss", [shorter, zeros, empty, unnamed])
@pytest.mark.parametrize("lost", [("000004.packets",), ("000004.*", "000003.*", "end.json")])
def test_what_the_disk_lost_is_made_again(
    stopped: tuple[Path, list[tuple]], identity_engine: str, tmp_path: Path, lost: tuple[str, ...], loss: Callable
) -> None:
    """The last of what was written is lost: the same command makes that again, no more, and the same film of it."""
    place, whole = stopped
    folder = JobFolder.of(tmp_path / "out.mkv")
    shutil.copytree(place / "kept", folder.path)
    for path in [each for name in lost for each in folder.path.glob(name)]:
        loss(path)
    valid = [number for number in range(1, 5) if folder.valid(number)]
    assert valid == [1, 2, 3][: 2 if "000003.*" in lost else 3]
    kept = {number: folder.packets(number).stat().st_mtime_ns for number in valid}
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        remove = JobFolder.remove

        def see(self: JobFolder) -> None:
            seen.update({number: self.packets(number).stat().st_mtime_ns for number in valid})
            remove(self)

        patch.setattr(JobFolder, "remove", see)
        arguments = [str(place / "in.mkv"), str(tmp_path / "out.mkv"), "--engine", identity_engine, *SEGMENTS]
        assert main(["upscale", *arguments]) == 0
    assert packets(tmp_path / "out.mkv") == whole
    assert seen == kept
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mkv"]


@pytest.mark.parametrize("loss", [shorter, zeros, empty, unnamed])
def test_a_job_that_had_hardly_begun(
    stopped: tuple[Path, list[tuple]], identity_engine: str, tmp_path: Path, loss: Callable
) -> None:
    """Its manifest is not whole, and nothing is done: it begins anew."""
    place, whole = stopped
    folder = JobFolder.of(tmp_path / "out.mkv")
    folder.path.mkdir()
    shutil.copy(place / "kept" / "manifest.json", folder.path)
    loss(folder.path / "manifest.json")
    assert main(["jobs", "list", str(tmp_path)]) == 0
    arguments = [str(place / "in.mkv"), str(tmp_path / "out.mkv"), "--engine", identity_engine, *SEGMENTS]
    assert main(["upscale", *arguments]) == 0
    assert packets(tmp_path / "out.mkv") == whole


def test_a_folder_left_by_a_kill_is_tidied_away(
    stopped: tuple[Path, list[tuple]], identity_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film had its name, the folder was not gone: it is no job of another file of that name."""
    place, whole = stopped
    out = tmp_path / "out.mkv"
    folder = JobFolder.of(out)
    shutil.copytree(place / "kept", folder.path)
    arguments = ["upscale", str(place / "in.mkv"), str(out), "--engine", identity_engine, *SEGMENTS]
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", JobFolder.close)
        assert main(arguments) == 0
    for path in folder.path.glob("00000*"):
        path.unlink()
    out.rename(tmp_path / "mine.mkv")
    shutil.copy(tmp_path / "mine.mkv", out)
    assert (main(arguments), folder.path.is_dir()) == (1, True)
    (tmp_path / "mine.mkv").rename(out)
    assert (main(arguments), folder.path.is_dir(), packets(out)) == (1, False, whole)


def test_a_folder_is_removed_in_an_order_that_can_be_gone_on_with(
    stopped: tuple[Path, list[tuple]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a kill comes, it is a job of fewer segments, or one that is over."""
    folder = JobFolder(tmp_path / "out.mkv.vsaether-job")
    shutil.copytree(stopped[0] / "kept", folder.path)
    folder.made(stopped[0] / "out.mkv")
    unlink, left = Path.unlink, []

    def counted(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        left.append({path.name for path in folder.path.iterdir()})

    monkeypatch.setattr(Path, "unlink", counted)
    folder.remove()
    assert not folder.path.exists()
    assert all("manifest.json" in each for each in left[:-2])
    assert all("result.json" in each for each in left[:-1])
