"""What a killed process leaves, and a disk whose power was lost: the same command goes on, to the same bytes."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vsaether.cli import main
from vsaether.media import resume
from vsaether.media.manifest import JobFolder

from .conftest import Run, make_video
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


LOSSES = {
    "shorter": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "unnamed": lambda path: path.rename(path.with_name(".aethernet-12345678.part")),  # it had not got its name yet
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lost", [("000004.packets",), ("000004.*", "000003.*", "end.json")])
def test_what_the_disk_lost_is_made_again(
    stopped: tuple[Path, list[tuple]], run: Run, lost: tuple[str, ...], loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of what was written is lost: the same command makes that again, no more, and the same film of it."""
    place, whole = stopped
    out = run.folder / "out.mkv"
    folder = JobFolder.of(out)
    shutil.copytree(place / "kept", folder.path)
    for path in [each for name in lost for each in folder.path.glob(name)]:
        LOSSES[loss](path)
    valid = [number for number in range(1, 5) if folder.valid(number)]
    assert valid == [1, 2, 3][: 2 if "000003.*" in lost else 3]

    def times() -> list[int]:
        return [folder.packets(number).stat().st_mtime_ns for number in valid]

    kept, seen, remove = times(), [], JobFolder.remove
    monkeypatch.setattr(JobFolder, "remove", lambda self: seen.append(times()) or remove(self))
    run.done(place / "in.mkv", out, *SEGMENTS)
    assert packets(out) == whole
    assert seen == [kept]
    assert list(run.folder.iterdir()) == [out]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_job_that_had_hardly_begun(stopped: tuple[Path, list[tuple]], run: Run, loss: str) -> None:
    place, whole = stopped
    folder = JobFolder.of(run.folder / "out.mkv")
    folder.path.mkdir()
    shutil.copy(place / "kept" / "manifest.json", folder.path)
    LOSSES[loss](folder.path / "manifest.json")
    assert main(["jobs", "list", str(run.folder)]) == 0
    run.done(place / "in.mkv", run.folder / "out.mkv", *SEGMENTS)
    assert packets(run.folder / "out.mkv") == whole


def test_a_folder_left_by_a_kill_is_tidied_away(
    stopped: tuple[Path, list[tuple]], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film had its name, the folder was not gone: it is no job of another file of that name."""
    place, whole = stopped
    out = tmp_path / "out.mkv"
    folder, arguments = JobFolder.of(out), (place / "in.mkv", out, *SEGMENTS)
    shutil.copytree(place / "kept", folder.path)
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", JobFolder.close)
        run.done(*arguments)
    for path in folder.path.glob("00000*"):
        path.unlink()
    out.rename(tmp_path / "mine.mkv")
    shutil.copy(tmp_path / "mine.mkv", out)
    assert (run(*arguments).code, folder.path.is_dir()) == (1, True)
    (tmp_path / "mine.mkv").rename(out)
    assert (run(*arguments).code, folder.path.is_dir(), packets(out)) == (1, False, whole)


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


def test_nothing_lies_beside_the_output_that_a_kill_would_leave(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the folder of the job."""
    seen, writer = set(), resume._writer
    monkeypatch.setattr(resume, "_writer", lambda *given: seen.update(os.listdir(tmp_path)) or writer(*given))
    run.done(make_video(tmp_path / "in.mkv"), tmp_path / "out.mkv", *SEGMENTS)
    assert seen == {"in.mkv", "out.mkv.vsaether-job"}


KILLS = 20
PROCESS = """if True:
    import os, random, signal, sys, time
    from pathlib import Path
    import onnxruntime, vsaether.media.batch, vsaether.media.resume
    from vsaether.cli import main

    out, arguments, chance = Path(sys.argv[1]), sys.argv[2:], random.Random(7)
    quiet = os.open(os.devnull, os.O_WRONLY)
    kills = films = midway = 0
    while kills < int(os.environ["KILLS"]):
        child = os.fork()  # what has been imported need not be imported again
        if not child:
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os._exit(main(arguments))
        time.sleep(chance.uniform(0.05, float(os.environ["SECONDS"])))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        if out.exists():
            films += 1
            out.rename(out.with_name(f"{films}.mkv"))
        midway += any(out.parent.glob("*/*.packets"))
    print(kills, midway > 0)
"""


def test_killed_at_twenty_moments(tmp_path: Path, identity_engine: str) -> None:
    """Nothing has the final name before it is complete, and then it is to the bit what an undisturbed run makes."""
    place = tmp_path / "made"
    place.mkdir()
    source = make_video(tmp_path / "in.mkv", pts=[40 * i for i in range(75)], picture=scenes, audio="mp2")
    whole, out = tmp_path / "whole.mkv", place / "out.mkv"
    command = ["upscale", str(source), str(out), "--engine", identity_engine, *SEGMENTS, "--backend", "ort"]
    began = time.monotonic()
    assert main([*command[:2], str(whole), *command[3:]]) == 0
    seconds = max(0.5, time.monotonic() - began)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, str(out), *command],
        env={"KILLS": str(KILLS), "SECONDS": str(seconds)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == f"{KILLS} True\n", done.stderr
    if out.exists():
        assert main(command) == 1  # and tidies away what a kill has left
    else:
        assert main(command) == 0
    made = sorted(place.iterdir())
    assert all(path.suffix == ".mkv" for path in made)
    assert all(packets(path) == packets(whole) for path in made)
